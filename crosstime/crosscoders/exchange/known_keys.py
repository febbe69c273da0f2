"""The keys of other tools' configurations that are known: those that are read, and those that change no code.

Everything else is refused by `Settings.check_keys`. Keys that are known and not read say on which text, how long and
from which initialisation a crosscoder was trained, or where its log went.
"""

from __future__ import annotations


def key_names(text: str) -> frozenset[str]:
    """The names in a text, which are separated by blanks."""
    return frozenset(text.split())


CTT = key_names("""
    seed batch_size buffer_mult num_val_batches lr num_tokens l1_warmup_pct l1_coeff beta1 beta2 d_in dict_size seq_len
    enc_dtype model_name revision_list site device model_batch_size log_every val_log_every save_every dec_init_norm
    hook_point wandb_project wandb_entity wandb_name n_models model_type do_ce_eval nnsight remove_bos batch_topk_final
    batch_topk_init topk_annealing_steps threshold_start_step threshold_beta dead_feature_threshold auxk_alpha
    estimated_act_norm_list suite revisions crosstime
""")
"""Of CTT's ``train_crosscoder_revision.py``; its predecessors by Nanda and by Kissane et al. have a part of them.

The last three are ours.
"""

FINETUNING = key_names("""
    activation_dim dict_size num_layers k same_init_for_all_layers norm_init_scale init_with_transpose encoder_layers
    latent_processor num_decoder_layers code_normalization code_normalization_alpha_sae code_normalization_alpha_cc
    activation_mean activation_std target_rms keep_relative_variance trainer buffer
""")
"""Arguments of `CrossCoder` and `BatchTopKCrossCoder`, which the Hub's mixin writes, and the tables of `trainSAE`.

The table ``buffer`` describes the data.
"""

FINETUNING_TRAINER = key_names("""
    dict_class trainer_class activation_dim dict_size num_layers lr l1_penalty warmup_steps resample_steps device layer
    lm_name wandb_name submodule_name use_mse_loss code_normalization code_normalization_alpha_sae
    code_normalization_alpha_cc target_rms steps seed k k_max k_annealing_steps auxk_alpha decay_start threshold_beta
    threshold_start_step top_k_aux dict_class_kwargs
""")
"""Of the table ``trainer`` that `trainSAE` writes."""

SAELENS = key_names("""
    architecture d_in d_sae apply_b_dec_to_input normalize_activations reshape_activations metadata k
    rescale_acts_by_decoder_norm activation_fn activation_fn_str activation_fn_kwargs finetuning_scaling_factor
    model_name model_from_pretrained_kwargs hook_name hook_name_out hook_layer hook_head_index hook_head_index_out
    hook_point hook_point_layer hook_point_head_index crosstime

    dataset_path dataset_trust_remote_code streaming is_dataset_tokenized use_chat_formatting context_size prepend_bos
    exclude_special_tokens seqpos_slice disable_concat_sequences sequence_separator_token use_cached_activations
    cached_activations_path from_pretrained_path n_batches_in_buffer store_batch_size store_batch_size_prompts
    train_batch_size train_batch_size_tokens train_batch_size_samples total_training_tokens training_tokens
    total_training_samples finetuning_tokens finetuning_method tokens_per_buffer activations_mixing_fraction
    prefetch_llm_batches n_batches_for_norm_estimate device llm_device act_store_device dtype seed verbose autocast
    autocast_lm compile_llm llm_compilation_mode compile_sae sae_compilation_mode model_class_name model_kwargs
    b_dec_init_method decoder_orthogonal_init decoder_heuristic_init decoder_heuristic_init_norm decoder_init_norm
    init_encoder_as_decoder_transpose normalize_sae_decoder expansion_factor noise_scale mse_loss_normalization
    l1_coefficient l1_warm_up_steps l0_coefficient l0_warm_up_steps lp_norm scale_sparsity_penalty_by_decoder_norm
    use_ghost_grads jumprelu_init_threshold jumprelu_bandwidth jumprelu_sparsity_loss_mode jumprelu_tanh_scale
    jumprelu_ste_to_input pre_act_loss_coefficient target_l0 use_sparse_activations aux_loss_coefficient adam_beta1
    adam_beta2 lr lr_end lr_scheduler_name lr_warm_up_steps lr_decay_steps n_restart_cycles feature_sampling_window
    feature_sampling_method feature_reinit_scale resample_batches dead_feature_window dead_feature_threshold
    dead_feature_estimation_method n_eval_batches eval_batch_size_prompts n_checkpoints checkpoint_path
    save_final_checkpoint resume resume_from_checkpoint output_path run_name log_to_wandb wandb_project wandb_entity
    wandb_id wandb_log_frequency eval_every_n_wandb_logs log_activations_store_to_wandb log_optimizer_state_to_wandb
    log_weights_to_wandb logger hook_eval hook_point_eval neuronpedia_id sae_lens_version sae_lens_training_version
    hf_hook_name hf_hook_name_out
""")
"""Of SAELens, at the top of the configuration and in its metadata; those of the first paragraph are read.

They are the fields of `LanguageModelSAERunnerConfig`, `SAEConfig` and its subclasses, `LoggingConfig` and `SAEMetadata`
in releases 0.2.1, 1.0.0, 2.1.3, 3.23.3, 4.4.5, 5.11.0, 6.0.0 and 6.54.12, and of what was published before the first.
"""

MODEL_LOADING = key_names("""
    dtype torch_dtype device device_map n_devices move_to_device low_cpu_mem_usage attn_implementation cache_dir token
    trust_remote_code use_safetensors local_files_only force_download default_prepend_bos default_padding_side
    center_unembed revision
""")
"""Of ``model_from_pretrained_kwargs``, where they leave the activations of a model as they are.

``center_unembed`` changes logits only, and ``revision`` names the checkpoint.
"""

DICTIONARY_LEARNING = key_names("""
    dict_class trainer_class activation_dim dict_size k lr steps seed device layer lm_name wandb_name submodule_name
    l1_penalty warmup_steps resample_steps sparsity_warmup_steps decay_start auxk_alpha threshold_beta
    threshold_start_step top_k_aux bandwidth sparsity_penalty target_l0 group_fractions group_weights group_sizes
    k_anneal_steps sparsity_function p_start p_end anneal_start anneal_end sparsity_queue_length n_sparsity_updates
    dict_class_kwargs use_mse_loss
""")
"""Of the table ``trainer`` that dictionary_learning's `trainSAE` writes."""

SPARSIFY = key_names("""
    activation expansion_factor normalize_decoder num_latents k multi_topk skip_connection transcode d_in signed
""")
"""Of sparsify's `SparseCoderConfig`."""

CROSSCODE = key_names("""
    n_models n_hookpoints d_model n_latents activation_fn use_encoder_bias use_decoder_bias dtype
""")
"""Of crosscode's `ModelHookpointAcausalCrosscoder`."""

LLAMASCOPIUM = key_names("""
    sae_type d_model expansion_factor use_decoder_bias act_fn norm_activation sparsity_include_decoder_norm top_k
    use_triton_kernel sparsity_threshold_for_triton_spmm_kernel jumprelu_threshold_window hook_points dtype device
    crosstime
""")
"""Of llamascopium's `CrosscoderConfig`, and ours; ``top_k`` counts for other activation functions only."""
