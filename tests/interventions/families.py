"""Tiny random models of many families of transformers, and what each offers, as the page of the docs says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from interventions import Model, Site

VOCABULARY, WIDTH, LAYERS = 60, 16, 4
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_KV = {"num_key_value_heads": 2}
_HEAD = {"head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4, "moe_intermediate_size": 16}
_LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "topk_group": 1, "n_group": 1}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 4}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("apertus", _KV),
    "arcee": ("arcee", _KV),
    "bamba": ("bamba", _KV | _MAMBA | {"attn_layer_indices": [1, 3]}),
    "biogpt": ("biogpt", {}),
    "bloom": ("bloom", {}),
    "codegen": ("codegen", {"rotary_dim": 4, "num_attention_heads": 4}),
    "cohere": ("cohere", _KV),
    "cohere2": ("cohere2", _KV),
    "ctrl": ("ctrl", {"dff": 32}),
    "deepseek_v2": ("deepseek_v2", _KV | _EXPERTS | _LATENT | _ROUTED),
    "deepseek_v3": ("deepseek_v3", _KV | _EXPERTS | _LATENT | _ROUTED),
    "diffllama": ("diffllama", _KV),
    "ernie4_5": ("ernie4_5", _KV | _HEAD),
    "exaone4": ("exaone4", _KV),
    "falcon": ("falcon", {}),
    "falcon_h1": ("falcon_h1", _KV | _HEAD | _MAMBA | {"mamba_d_ssm": 32}),
    "falcon_mamba": ("falcon_mamba", {"state_size": 4, "time_step_rank": 4}),
    "gemma": ("gemma", _KV | _HEAD),
    "gemma2": ("gemma2", _KV | _HEAD),
    "gemma3_text": ("gemma3_text", _KV | _HEAD),
    "gemma3 with vision": (
        "gemma3",
        {
            "text_config": {**_COMMON, "num_key_value_heads": 1, "head_dim": 8},
            "vision_config": {
                "hidden_size": 8,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 1,
                "intermediate_size": 8,
                "image_size": 16,
                "patch_size": 8,
            },
        },
    ),
    "glm": ("glm", _KV | _HEAD),
    "glm4": ("glm4", _KV | _HEAD),
    "gpt2": ("gpt2", {}),
    "gpt_bigcode": ("gpt_bigcode", {}),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": LAYERS, "num_heads": 2, "attention_types": [[["global", "local"], 2]], "window_size": 8},
    ),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_oss": ("gpt_oss", _KV | _HEAD | _EXPERTS),
    "gptj": ("gptj", {"rotary_dim": 4}),
    "granite": ("granite", _KV),
    "granitemoe": ("granitemoe", _KV | _EXPERTS),
    "granitemoehybrid": (
        "granitemoehybrid",
        _KV
        | _EXPERTS
        | _MAMBA
        | {"layer_types": ["mamba", "attention", "mamba", "attention"], "shared_intermediate_size": 16},
    ),
    "helium": ("helium", _KV | _HEAD),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", _KV | _HEAD),
    "jamba": (
        "jamba",
        {
            "num_key_value_heads": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "lfm2": ("lfm2", _KV | {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}),
    "llama": ("llama", _KV),
    "mamba": ("mamba", {"state_size": 4, "expand": 2, "conv_kernel": 3, "time_step_rank": 4}),
    "mamba2": ("mamba2", {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "expand": 2, "chunk_size": 4}),
    "mistral": ("mistral", {"num_key_value_heads": 1}),
    "mixtral": ("mixtral", _KV | _EXPERTS),
    "mpt": ("mpt", {"n_layers": LAYERS, "n_heads": 2, "d_model": WIDTH, "max_seq_len": 64}),
    "nemotron": ("nemotron", _KV),
    "nemotron_h": (
        "nemotron_h",
        _KV
        | _HEAD
        | {
            "mamba_num_heads": 4,
            "mamba_head_dim": 8,
            "ssm_state_size": 4,
            "n_groups": 1,
            "chunk_size": 4,
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
        },
    ),
    "olmo": ("olmo", _KV),
    "olmo2": ("olmo2", _KV),
    "olmo3": ("olmo3", _KV),
    "olmo_hybrid": ("olmo_hybrid", _KV | _LINEAR | {"layer_types": ["linear_attention", "full_attention"] * 2}),
    "olmoe": ("olmoe", _KV | _EXPERTS),
    "opt": ("opt", {"ffn_dim": 32, "word_embed_proj_dim": WIDTH}),
    "opt with another embedding width": ("opt", {"ffn_dim": 32, "word_embed_proj_dim": 8}),
    "persimmon": ("persimmon", {}),
    "phi": ("phi", _KV),
    "phi3": ("phi3", _KV),
    "phimoe": ("phimoe", _KV | _EXPERTS),
    "qwen2": ("qwen2", _KV),
    "qwen2_moe": ("qwen2_moe", _KV | _EXPERTS | {"shared_expert_intermediate_size": 16}),
    "qwen3": ("qwen3", _KV | _HEAD),
    "qwen3_moe": ("qwen3_moe", _KV | _HEAD | _EXPERTS),
    "qwen3_next": (
        "qwen3_next",
        _KV
        | _HEAD
        | _EXPERTS
        | _LINEAR
        | {"shared_expert_intermediate_size": 16, "layer_types": ["full_attention", "linear_attention"] * 2},
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        {"lru_width": WIDTH, "num_key_value_heads": 1, "head_dim": 8, "attention_window_size": 32},
    ),
    "rwkv": ("rwkv", {"attention_hidden_size": WIDTH, "context_length": 64}),
    "seed_oss": ("seed_oss", _KV | _HEAD),
    "smollm3": ("smollm3", _KV),
    "stablelm": ("stablelm", _KV),
    "starcoder2": ("starcoder2", _KV),
    "xglm": ("xglm", {"d_model": WIDTH, "num_layers": LAYERS, "attention_heads": 2, "ffn_dim": 32}),
    "xlstm": ("xlstm", {"embedding_dim": WIDTH, "num_heads": 2, "num_blocks": LAYERS, "chunk_size": 4}),
    "zamba2": (
        "zamba2",
        _KV
        | {
            "mamba_d_state": 4,
            "mamba_ngroups": 1,
            "n_mamba_heads": 2,
            "mamba_headdim": 16,
            "chunk_size": 4,
            "hybrid_layer_ids": [1, 3],
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "use_mamba_kernels": False,
            "num_mem_blocks": 1,
        },
    ),
}
"""For each family: the `model_type`, and what its configuration needs besides the sizes that all have."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai-gpt": ("openai-gpt", {}, "no norm stands beside its blocks"),
    "opt without a final norm": (
        "opt",
        {"ffn_dim": 32, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        "no norm stands beside its blocks",
    ),
    "nanochat": ("nanochat", _KV | _HEAD, "do not run in the order"),
}
"""Families that are refused, and a part of the sentence that says why."""


def build(model_type: str, settings: dict[str, Any]) -> nn.Module:
    """A tiny model with random weights that are large enough for tokens, blocks and sublayers to matter.

    Raises:
        ValueError: the installed transformers does not have the family.
    """
    sizes = {} if "text_config" in settings else _COMMON
    config = AutoConfig.for_model(model_type, **{**sizes, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in module.named_parameters():
            noise = torch.randn(weights.shape, generator=generator)
            if "embed" in name and weights.dim() > 1:
                weights.copy_(noise)
            elif weights.dim() > 1:
                weights.copy_(1.5 * noise / weights.shape[1] ** 0.5)
            else:
                weights.add_(0.2 * noise)
    return module


@dataclass(frozen=True)
class Offer:
    """What a family offers.

    Attributes:
        components: the components of its sites, and where they are if not at all layers.
        batches: whether prompts of different lengths run together.
        cache: whether passes continue from a KV cache.
        logits: whether logits are the unembedding of the final norm's output.
        positions: the longest sequence.
    """

    components: str
    batches: str
    cache: str
    logits: str
    positions: str

    @classmethod
    def of(cls, model: Model) -> Offer:
        """What an opened model offers."""
        layers = [model.components_at(layer) for layer in range(model.n_layers)]
        partial = any(set(layer) != set(model.components) for layer in layers)
        names = [name for name in ("resid", "attn", "mlp") if name in model.components]
        positions = model.positions
        return cls(
            components=", ".join(names) + (", where a layer has them" if partial else ""),
            batches="one length" if model.equal_lengths else "padded",
            cache="yes" if model.continues_from_cache(Site(0)) else "no",
            logits="linear" if model.head_is_linear else "whole model",
            positions="table" if positions.table else "none" if positions.trained is None else "trained length",
        )

    def line(self, family: str) -> str:
        """The family's line in the table of the docs."""
        cells = (f"`{family}`", self.components, self.batches, self.cache, self.logits, self.positions)
        return f"| {' | '.join(cells)} |"
