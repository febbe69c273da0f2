"""Released files of other tools: what they do not say is asked for, and what changes their function is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders import exchange
from crosstime.crosscoders.activation_functions import BatchTopK, JumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.hooks import site_of
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Site

C, D, F, T = 2, 4, 6, 30
CENTRED = "subtracted from the activations of models with LayerNorm"


CTT = {
    "W_enc": randn(C, D, F, seed=1), "b_enc": randn(F, seed=2), "W_dec": randn(F, C, D, seed=3),
    "b_dec": randn(C, D, seed=4),
}  # fmt: skip
SAE = {
    "W_enc": randn(D, F, seed=1), "b_enc": randn(F, seed=2), "W_dec": randn(F, D, seed=3), "b_dec": randn(D, seed=4)
}  # fmt: skip
STATE = {
    "encoder.weight": CTT["W_enc"], "encoder.bias": CTT["b_enc"], "decoder.bias": CTT["b_dec"],
    "decoder.weight": CTT["W_dec"].transpose(0, 1).contiguous(),
}  # fmt: skip
BATCHTOPK = {"k": torch.tensor(2), "threshold": torch.tensor(0.5)}
NANDA = {
    "seed": 49, "batch_size": 4096, "buffer_mult": 128, "lr": 5e-05, "num_tokens": 400_000_000, "l1_coeff": 2,
    "beta1": 0.9, "beta2": 0.999, "d_in": D, "dict_size": F, "seq_len": 1024, "enc_dtype": "fp32",
    "model_name": "gemma-2-2b", "site": "resid_pre", "device": "cuda:0", "model_batch_size": 4, "log_every": 100,
    "save_every": 30000, "dec_init_norm": 0.08, "hook_point": "blocks.14.hook_resid_pre",
}  # fmt: skip
OLD_CTT = {
    "dict_size": F, "d_in": D, "n_models": 2, "model_name": "EleutherAI/pythia-1b", "revision_list": "step64-main",
    "hook_point": "blocks.5.hook_resid_pre", "estimated_act_norm_list": None, "remove_bos": True,
}  # fmt: skip
RES_JB = {
    "model_name": "gpt2-small", "hook_point": "blocks.3.hook_resid_pre", "hook_point_layer": 3,
    "hook_point_head_index": None, "dataset_path": "Skylion007/openwebtext", "is_dataset_tokenized": False,
    "context_size": 128, "d_in": D, "d_sae": F, "n_batches_in_buffer": 128, "total_training_tokens": 300_000_000,
    "store_batch_size": 32, "device": "mps", "seed": 42, "dtype": "torch.float32", "lr": 0.0004,
    "b_dec_init_method": "geometric_median", "use_ghost_grads": False, "feature_sampling_method": None,
    "resample_batches": 1028, "dead_feature_estimation_method": "no_fire", "noise_scale": 0.0,
    "feature_reinit_scale": 0.2, "wandb_project": "mats", "tokens_per_buffer": 67_108_864, "run_name": "a",
}  # fmt: skip
NEW_SAE = {
    "architecture": "standard", "d_in": D, "d_sae": F, "apply_b_dec_to_input": True, "normalize_activations": "none",
    "metadata": {"model_name": "gpt2", "hook_name": "blocks.2.hook_resid_post", "prepend_bos": True},
}  # fmt: skip


def ctt(folder: Path, config: dict[str, Any], names: tuple[str, str] = ("5.pt", "5_cfg.json"), **tensors) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(CTT | tensors, folder / names[0])
    (folder / names[1]).write_text(json.dumps(config))
    return folder


def sae(folder: Path, config: dict[str, Any], **tensors: Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(SAE | tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def sae_by_hand(x: Tensor, factor: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """SAELens' standard autoencoder with a factor of its codes, in float64."""
    W_enc, b_enc, W_dec, b_dec = (SAE[name].double() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = ((x.double() - b_dec) @ W_enc + b_enc).relu()
    return codes, (codes * factor) @ W_dec + b_dec


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (("5.pt", "5_cfg.json"), NANDA),
        (("cc_weights.pt", "cfg.json"), NANDA),
        (("0.pt", "0_cfg.json"), OLD_CTT),
        (("cc_weights.pt", "cfg.json"), NANDA | {"enc_dtype": "bf16"}),
    ],
)
def test_scales_that_a_file_does_not_keep_are_asked_for(tmp_path: Path, names, config):
    folder = ctt(tmp_path / "theirs", config, names)
    with pytest.raises(
        CrosscoderError, match=r"was trained on activations times s_c .*crosstime convert --scales"
    ) as e:
        exchange.read(folder)
    assert "ct.estimate_scales" in str(e.value)
    scales = torch.tensor([0.5, 3.0])
    actual = exchange.read(folder, scales=scales)
    x = randn(T, C, D, seed=9)
    codes = (
        torch.einsum("tcd,cdf->tf", (x * scales.reshape(C, 1)).double(), CTT["W_enc"].double()) + CTT["b_enc"]
    ).relu()
    torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-5, atol=1e-5)
    assert actual.origin.training[exchange.SCALES_NOTE] == "given when the file was read"
    asked = []
    estimated = exchange.read(folder, scales=lambda origin: asked.append(origin) or scales)
    assert estimated.scales.equal(scales)
    assert [(origin.d_model, origin.site) for origin in asked] == [(D, actual.origin.site)]


def test_a_format_whose_class_takes_activations_as_they_are_needs_no_scales(tmp_path: Path):
    torch.save(STATE, tmp_path / "ae.pt")
    assert exchange.read(tmp_path / "ae.pt", site="resid.1").scales.tolist() == [1.0, 1.0]
    assert exchange.read(sae(tmp_path / "sae", NEW_SAE)).scales.tolist() == [1.0]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_of_all_tensors_are_taken_off(tmp_path: Path, prefix: str):
    def wrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}

    torch.save(wrapped(STATE | BATCHTOPK), tmp_path / "ae.pt")
    (tmp_path / "hub").mkdir()
    save_file(wrapped(STATE | BATCHTOPK), tmp_path / "hub" / "model.safetensors")
    (tmp_path / "ctt").mkdir()
    torch.save(wrapped(CTT | BATCHTOPK), tmp_path / "ctt" / "0.pt")
    config = OLD_CTT | {"estimated_act_norm_list": [1.0, 1.0]}
    (tmp_path / "ctt" / "0_cfg.json").write_text(json.dumps(config))
    x = randn(T, C, D, seed=9)
    codes = (torch.einsum("tcd,cdf->tf", x.double(), CTT["W_enc"].double()) + CTT["b_enc"]).relu()
    codes = codes * (codes * CTT["W_dec"].double().norm(dim=2).sum(1) > 0.5)
    for path, format in (("ae.pt", "finetuning"), ("hub", "finetuning"), ("ctt", "ctt")):
        assert exchange.detect(tmp_path / path) == format
        actual = exchange.read(tmp_path / path, site="resid.4")
        torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-5, atol=1e-5)


def test_a_wrapper_of_some_tensors_is_named(tmp_path: Path):
    torch.save({"_orig_mod.encoder.weight": STATE["encoder.weight"]} | STATE, tmp_path / "ae.pt")
    with pytest.raises(CrosscoderError, match=r"unknown tensor: _orig_mod\.encoder\.weight"):
        exchange.read(tmp_path / "ae.pt", site="resid.1")


def test_a_threshold_that_is_a_plain_number_is_read(tmp_path: Path):
    torch.save(STATE | {"k": 4, "threshold": 0.5}, tmp_path / "ae.pt")
    activation = exchange.read(tmp_path / "ae.pt", site="resid.1").activation
    assert isinstance(activation, BatchTopK)
    assert (activation.k, activation.threshold.item()) == (4, 0.5)


@pytest.mark.parametrize("more", [{"normalize_activations": False}, {}, {"normalize_activations": None, "lp_norm": 1}])
def test_saes_of_saelens_before_3_are_read_with_a_warning(tmp_path: Path, more: dict[str, Any]):
    x = randn(T, 1, D, seed=9)
    codes, reconstruction = sae_by_hand(x[:, 0])
    for factors in ({}, {"scaling_factor": torch.ones(F)}):
        with pytest.warns(RuntimeWarning, match=CENTRED):
            actual = exchange.read(sae(tmp_path / "old", RES_JB | more, **factors))
        assert (actual.origin.suite, actual.origin.site, actual.scales.tolist()) == ("gpt2-small", Site(2), [1.0])
        torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(actual(x)[:, 0].double(), reconstruction, rtol=1e-5, atol=1e-5)


def test_an_old_sae_that_was_trained_on_scaled_activations_needs_its_scale(tmp_path: Path):
    folder = sae(tmp_path / "old", RES_JB | {"normalize_activations": True, "model_from_pretrained_kwargs": {
        "center_writing_weights": False}})  # fmt: skip
    with pytest.raises(CrosscoderError, match=r"does not keep the scales s_c \(normalize_activations in"):
        exchange.read(folder)
    x = randn(T, 1, D, seed=9)
    codes, _ = sae_by_hand(x[:, 0] * 2)
    torch.testing.assert_close(exchange.read(folder, scales=[2.0]).encode(x).double(), codes, rtol=1e-5, atol=1e-5)


def test_a_scaling_factor_counts_if_the_configuration_says_so(tmp_path: Path):
    factor = randn(F, seed=7).abs() + 0.5
    with pytest.raises(CrosscoderError, match=r"scaling_factor that is not of ones, but .* finetuning_scaling_factor"):
        exchange.read(sae(tmp_path / "a", NEW_SAE, scaling_factor=factor))
    x = randn(T, 1, D, seed=9)
    codes, reconstruction = sae_by_hand(x[:, 0], factor.double())
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        folder = sae(tmp_path / name, NEW_SAE | {"finetuning_scaling_factor": True}, **{name: factor})
        actual = exchange.read(folder)
        torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(actual(x)[:, 0].double(), reconstruction, rtol=1e-5, atol=1e-5)
    with pytest.raises(CrosscoderError, match="scaling_factor has numbers that are not finite: all of them are NaN"):
        exchange.read(sae(tmp_path / "nan", NEW_SAE, scaling_factor=torch.full((F,), torch.nan)))


def kwargs(**values: Any) -> dict[str, Any]:
    return NEW_SAE | {"metadata": NEW_SAE["metadata"] | {"model_from_pretrained_kwargs": values}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (kwargs(center_writing_weights=True), "model_from_pretrained_kwargs says center_writing_weights: "),
        (NEW_SAE | {"model_from_pretrained_kwargs": {"fold_ln": True}}, "model_from_pretrained_kwargs says fold_ln"),
        (kwargs(checkpoint_value=512), r"says checkpoint_value 512: name the revision that this is, with revisions"),
        (kwargs(load_in_8bit=True), r"not known here, .*: metadata\.model_from_pretrained_kwargs\.load_in_8bit; "),
        (NEW_SAE | {"center": True}, r"not known here, .*: center; .*ignore=\['center'\] .*--ignore center"),
        (NEW_SAE | {"activation_fn_str": "tanh-relu"}, "says the activation function 'tanh-relu'"),
        (NEW_SAE | {"activation_fn": "elu"}, "says the activation function 'elu'"),
        (NEW_SAE | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2, "postact_fn": "tanh"}}, "postact_fn"),
        (NEW_SAE | {"hook_head_index": 3}, "says hook_head_index 3: the activation of one attention head is no site"),
        (NEW_SAE | {"d_sae": 99}, "says d_sae 99, but the weights have 6"),
        (NEW_SAE | {"hook_layer": 7, "hook_name": "blocks.2.hook_resid_post"}, "but hook_layer 7"),
        (NEW_SAE | {"hook_name": "blocks.4.hook_mlp_out"}, "several hook points: blocks.2.*, blocks.4"),
        (NEW_SAE | {"metadata": {"hook_name": "blocks.2.hook_mlp_out", "hook_name_out": "x"}}, "that is a transcoder"),
        (NEW_SAE | {"architecture": "temporal"}, "is of architecture 'temporal', another function"),
    ],
)  # fmt: skip
def test_settings_of_saelens_that_change_the_function_are_refused_by_name(tmp_path: Path, config, message: str):
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(sae(tmp_path / "theirs", config))


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk", "jumprelu_training", "standart"])
def test_no_hint_names_another_function(tmp_path: Path, name: str):
    with pytest.raises(CrosscoderError) as e:
        exchange.read(sae(tmp_path / "theirs", NEW_SAE | {"architecture": name}))
    assert "did you mean" not in str(e.value)


def test_settings_that_change_nothing_are_passed_over(tmp_path: Path):
    config = kwargs(center_writing_weights=False, dtype="bfloat16", revision="step512", center_unembed=True)
    assert exchange.read(sae(tmp_path / "a", config)).origin.revisions == ("step512",)
    folder = sae(tmp_path / "b", NEW_SAE | {"note": "mine", "seed": 3, "nothing": None})
    assert exchange.read(folder, ignore=["note"]).origin.site == Site(2)
    named = exchange.read(sae(tmp_path / "c", kwargs(checkpoint_value=512)), revisions=["step512"])
    assert named.origin.revisions == ("step512",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"center": True}, r"5_cfg\.json has settings that are not known here, .*: center; if they do not"),
        ({"dict_size": 7}, "says dict_size 7, but the weights have 6"),
        ({"batch_topk_final": 20}, "says batch_topk_final, but .* has no tensor threshold"),
    ],
)
def test_settings_of_ctt_that_do_not_fit_are_refused_by_name(tmp_path: Path, config, message: str):
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(ctt(tmp_path / "theirs", NANDA | config), scales=[1.0, 1.0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder_layers": [0]}, "sets encoder_layers, which no crosscoder here has"),
        ({"num_decoder_layers": 5}, "says num_decoder_layers 5, but the weights have 2"),
        ({"whiten": True}, "not known here, .*: whiten; "),
        ({"trainer": {"dict_class": "GatedAutoEncoder"}}, "says dict_class 'GatedAutoEncoder', another function"),
        ({"trainer": {"dict_class": "BatchTopKCrossCoder"}}, "is a BatchTopKCrossCoder, but has no tensor threshold"),
        ({"trainer": {"normalize": 1}}, r"not known here, .*: trainer\.normalize; "),
    ],
)
def test_settings_of_finetuning_that_change_the_function_are_refused_by_name(tmp_path: Path, config, message: str):
    torch.save(STATE, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(tmp_path / "ae.pt", site="resid.1")


def test_the_weighting_of_codes_is_that_of_the_configuration_if_the_file_has_none(tmp_path: Path):
    torch.save(STATE | {"k": torch.tensor(2), "threshold": torch.tensor(0.7)}, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"code_normalization": "NONE", "buffer": {"ctx_len": 128}}))
    x = randn(T, C, D, seed=9)
    codes = (torch.einsum("tcd,cdf->tf", x.double(), CTT["W_enc"].double()) + CTT["b_enc"]).relu()
    actual = exchange.read(tmp_path / "ae.pt", site="resid.1").encode(x).double()
    torch.testing.assert_close(actual, codes * (codes > 0.7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.5.attn.hook_z", "blocks.3.hook_resid_mid", "hook_embed", "blocks.0.hook_resid_pre", "model.norm",
        "blocks.2.ln1.hook_normalized", "blocks.4.mlp.hook_post", "model.layers.3.mlp", "ln_final.hook_normalized",
    ],
)  # fmt: skip
def test_a_hook_point_that_is_no_site_is_refused_whatever_site_is_given(tmp_path: Path, hook: str):
    folders = (
        sae(tmp_path / "sae", NEW_SAE | {"metadata": {"hook_name": hook}}),
        ctt(tmp_path / "ctt", NANDA | {"hook_point": hook}),
    )
    for folder in folders:
        for site in (None, "resid.1"):
            with pytest.raises(CrosscoderError, match="no site") as e:
                exchange.read(folder, site=site, scales=[1.0] * (1 if folder.name == "sae" else C))
            assert "give" not in str(e.value)


def test_the_path_of_a_block_is_its_output():
    names = ("model.layers.3", "transformer.h.3", "gpt_neox.layers.3", "model.model.layers.3")
    assert {site_of(name) for name in names} == {Site(3)}


@pytest.mark.parametrize("name", list(CTT))
def test_numbers_that_are_not_finite_are_counted(tmp_path: Path, name: str):
    with pytest.raises(CrosscoderError, match=f"{name} has numbers that are not finite: all of them are NaN"):
        exchange.read(ctt(tmp_path / "a", NANDA, **{name: torch.full_like(CTT[name], torch.nan)}), scales=[1.0, 1.0])
    damaged = CTT[name].clone()
    damaged.view(-1)[0] = torch.inf
    with pytest.raises(CrosscoderError, match=rf"{name} has .*: 1 of {damaged.numel()} are NaN or infinite"):
        exchange.read(ctt(tmp_path / "b", NANDA, **{name: damaged}), scales=[1.0, 1.0])


def test_a_threshold_of_minus_one_is_refused_in_every_format(tmp_path: Path):
    unset = {"k": torch.tensor(2), "threshold": torch.tensor(-1.0)}
    torch.save(STATE | unset, tmp_path / "ae.pt")
    for path in (tmp_path / "ae.pt", ctt(tmp_path / "ctt", NANDA, **unset)):
        with pytest.raises(CrosscoderError, match="has no threshold yet, but -1: it was not trained long enough"):
            exchange.read(path, site="resid.1", scales=None if path.suffix else [1.0, 1.0])
    activation = BatchTopK(F, k=2)
    activation.threshold.fill_(-1)
    CrossCoder(Origin("tiny", ("a", "b"), Site(1), D), F, activation=activation).save(tmp_path / "ours.safetensors")
    with pytest.raises(CrosscoderError, match=r"ours\.safetensors is not a valid .*: its threshold is negative"):
        exchange.read(tmp_path / "ours.safetensors")


def test_thresholds_of_saelens_below_zero_are_told(tmp_path: Path):
    threshold = torch.tensor([-1.0, -1.0, 0.5, 1.0, 0.0, 2.0])
    folder = sae(tmp_path / "sae", NEW_SAE | {"architecture": "jumprelu"}, threshold=threshold)
    with pytest.warns(RuntimeWarning, match="has thresholds below zero, of 2 of 6 features"):
        actual = exchange.read(folder)
    x = randn(T, 1, D, seed=9)
    codes, _ = sae_by_hand(x[:, 0])
    torch.testing.assert_close(actual.encode(x).double(), codes * (codes > threshold), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["W_enc", "b_dec", "scales", "activation.log_threshold"])
def test_our_own_file_with_nan_is_refused(tmp_path: Path, name: str):
    crosscoder = CrossCoder(Origin("tiny", ("a", "b"), Site(1), D), F, activation=JumpReLU(F))
    crosscoder.state_dict()[name].view(-1)[0] = torch.nan
    crosscoder.save(tmp_path / "ours.safetensors")
    with pytest.raises(CrosscoderError, match=f"{name} has numbers that are not finite: 1 of .* are NaN"):
        exchange.read(tmp_path / "ours.safetensors")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation_mean": torch.tensor([[torch.nan] + [0.0] * 3, [0.0] * 4])}, "_mean has .*: 1 of 8 are NaN"),
        ({"activation_mean": torch.full((C, D), torch.nan)}, "activation_mean has .*: all of them are NaN"),
        ({"activation_std": torch.full((C, D), torch.inf)}, "activation_std has .*: all of them are NaN or infinite"),
        ({"activation_global_scale": torch.tensor([1.0, torch.nan])}, "activation_global_scale has .*: 1 of 2 are NaN"),
        ({"activation_mean": None}, "activation_mean is missing"),
    ],
)  # fmt: skip
def test_a_normaliser_that_is_damaged_is_not_taken_for_unset(tmp_path: Path, changed, message: str):
    normalizer = {
        "activation_mean": torch.zeros(C, D), "activation_std": torch.ones(C, D),
        "activation_global_scale": torch.ones(C), "target_rms": torch.tensor(1.0),
    }  # fmt: skip
    state = STATE | normalizer | changed
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "ae.pt")
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(tmp_path / "ae.pt", site="resid.1")


def test_scales_cannot_replace_those_of_a_normaliser(tmp_path: Path):
    normalizer = {
        "activation_mean": torch.zeros(C, D), "activation_std": torch.ones(C, D),
        "activation_global_scale": torch.ones(C), "target_rms": torch.tensor(1.0),
    }  # fmt: skip
    torch.save(STATE | normalizer, tmp_path / "ae.pt")
    with pytest.raises(CrosscoderError, match="keeps the scales of its activations, which cannot be replaced"):
        exchange.read(tmp_path / "ae.pt", site="resid.1", scales=[2.0, 2.0])


def test_a_file_that_an_earlier_version_wrote_is_read(tmp_path: Path):
    config = OLD_CTT | {
        "estimated_act_norm_list": [1.0, 2.0],
        "revisions": ["step64", "main"],
        "n_shared": 0,
        "steps": 9,
    }
    actual = exchange.read(ctt(tmp_path / "ours", config))
    assert (actual.origin.revisions, actual.origin.training["steps"]) == (("step64", "main"), 9)
