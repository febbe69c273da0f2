"""Autoencoders and crosscoders of other tools that are read only: their codes are those of the tool's own function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders import exchange
from crosstime.crosscoders.activation_functions import TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Site

pytest.importorskip("dictionary_learning", reason="dictionary-learning is not installed")
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK

C, D, F, T = 3, 6, 10, 40


X = randn(T, D, seed=9)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module with other weights than those of initialisation, and a threshold that was estimated."""
    for number, parameter in enumerate(module.parameters()):
        parameter.data = randn(*parameter.shape, seed=number)
    if "threshold" in dict(module.named_buffers()):
        module.threshold.fill_(0.7)
    if isinstance(module, JumpReluAutoEncoder):
        module.threshold.data.abs_()
    return module


def saved(folder: Path, module: torch.nn.Module, **trainer: Any) -> Path:
    torch.save(module.state_dict(), folder / "ae.pt")
    config = {"dict_class": type(module).__name__, "activation_dim": D, "dict_size": F, "layer": 3, "lm_name": "gpt2"}
    buffer = {"d_submodule": D, "ctx_len": 128}
    (folder / "config.json").write_text(json.dumps({"trainer": config | trainer, "buffer": buffer}))
    return folder


@pytest.mark.parametrize(
    "module",
    [
        AutoEncoder(D, F),
        AutoEncoderNew(D, F),
        AutoEncoderTopK(D, F, k=3),
        BatchTopKSAE(D, F, k=3),
        MatryoshkaBatchTopKSAE(D, F, k=3, group_sizes=[4, 6]),
        JumpReluAutoEncoder(D, F),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_dictionary_of_dictionary_learning_does_what_its_own_class_does(tmp_path: Path, module: torch.nn.Module):
    module = randomised(module)
    crosscoder = exchange.read(saved(tmp_path, module, k=3), revisions=["main"])
    origin = crosscoder.origin
    assert (origin.suite, origin.revisions, origin.site, origin.d_model) == ("gpt2", ("main",), Site(3), D)
    if isinstance(module, AutoEncoder):
        # As its `from_pretrained` does
        module.normalize_decoder()
    with torch.no_grad():
        codes, reconstruction = module.encode(X), module(X)
    torch.testing.assert_close(crosscoder.encode(X.unsqueeze(1)), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(crosscoder(X.unsqueeze(1))[:, 0], reconstruction, rtol=1e-4, atol=1e-5)
    assert 0 < codes.count_nonzero() < codes.numel()


def test_what_cannot_be_read_of_dictionary_learning_is_named(tmp_path: Path):
    saved(tmp_path, randomised(BatchTopKSAE(D, F, k=3)), dict_class="GatedAutoEncoder")
    with pytest.raises(
        CrosscoderError, match=r"says dict_class 'GatedAutoEncoder', another function than .*BatchTopKSAE"
    ):
        exchange.read(tmp_path)
    saved(tmp_path, randomised(BatchTopKSAE(D, F, k=3)), own_invention=3)
    with pytest.raises(CrosscoderError, match=r"not known here.*own_invention"):
        exchange.read(tmp_path)
    untrained = BatchTopKSAE(D, F, k=3)
    with pytest.raises(CrosscoderError, match="has no threshold yet"):
        exchange.read(saved(tmp_path, untrained))
    saved(tmp_path, randomised(AutoEncoder(D, F)), dict_size=F + 1)
    with pytest.raises(CrosscoderError, match=rf"says dict_size {F + 1}, but the weights have {F}"):
        exchange.read(tmp_path)


@pytest.mark.parametrize("folder", ["layers.3", "gpt_neox.layers.11.mlp", "mine"])
def test_a_dictionary_of_sparsify_is_read(tmp_path: Path, folder: str):
    weights = {
        "encoder.weight": randn(F, D, seed=1),
        "encoder.bias": randn(F, seed=2),
        "W_dec": randn(F, D, seed=3),
        "b_dec": randn(D, seed=4),
    }
    path = tmp_path / folder
    path.mkdir()
    save_file(weights, path / "sae.safetensors")
    config = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": 0, "k": 3}
    config |= {"multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D}
    (path / "cfg.json").write_text(json.dumps(config))
    site = {"layers.3": Site(3), "gpt_neox.layers.11.mlp": Site(11, "mlp")}.get(folder)
    crosscoder = exchange.read(path, site=None if site else "resid.5")
    assert crosscoder.origin.site == (site or Site(5))

    pre = ((X - weights["b_dec"]).double() @ weights["encoder.weight"].double().T + weights["encoder.bias"]).relu()
    top = pre.topk(3)
    codes = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    torch.testing.assert_close(crosscoder.encode(X.unsqueeze(1)).double(), codes, rtol=1e-4, atol=1e-5)
    expected = codes @ weights["W_dec"].double() + weights["b_dec"]
    torch.testing.assert_close(crosscoder(X.unsqueeze(1))[:, 0].double(), expected, rtol=1e-4, atol=1e-5)

    for key, value, message in [
        ("transcode", True, "says transcode: that is a transcoder"),
        ("activation", "groupmax", "says the activation 'groupmax'"),
        ("num_latents", F + 1, "says num_latents"),
    ]:
        (path / "cfg.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(CrosscoderError, match=message):
            exchange.read(path, site="resid.5")


def crosscode(folder: Path, classname: str, cfg: str = "{}", **more: Tensor) -> dict[str, Tensor]:
    weights = {
        "_W_enc_XiDiL": randn(C, 1, D, F, seed=1),
        "b_enc_L": randn(F, seed=2),
        "_W_dec_LXoDo": randn(F, C, 1, D, seed=3),
        "_b_dec_XoDo": randn(C, 1, D, seed=4),
        "is_folded": torch.tensor(True),
        "folded_scaling_factors_in_Xi": torch.ones(C, 1),
        "folded_scaling_factors_out_Xo": torch.ones(C, 1),
    } | more
    torch.save(weights, folder / "model.pt")
    (folder / "model_cfg.yaml").write_text(
        f"activation_fn:\n  cfg: {cfg}\n  classname: {classname}\nd_model: {D}\n"
        f"dtype: !!python/object/apply:torch.float32 []\nn_hookpoints: 1\nn_latents: {F}\nn_models: {C}\n"
        "use_decoder_bias: true\nuse_encoder_bias: true\n"
    )
    return weights


@pytest.mark.parametrize("name", ["ReLUActivation", "AnthropicSTEJumpReLUActivation"])
def test_a_crosscoder_of_crosscode_is_read(tmp_path: Path, name: str):
    threshold = randn(F, seed=5) * 0.3
    more = {"_activation_fn.log_threshold_L": threshold} if "JumpReLU" in name else {}
    weights = crosscode(tmp_path, name, **more)
    crosscoder = exchange.read(tmp_path, revisions=["a", "b", "c"], site="resid.2")
    x = randn(T, C, D, seed=8)
    pre = torch.einsum("tcd,cdf->tf", x.double(), weights["_W_enc_XiDiL"].squeeze(1).double()) + weights["b_enc_L"]
    codes = pre * (pre > threshold.exp()) if more else pre.relu()
    expected = torch.einsum("tf,fcd->tcd", codes, weights["_W_dec_LXoDo"].squeeze(2).double())
    expected += weights["_b_dec_XoDo"].squeeze(1)
    torch.testing.assert_close(crosscoder.encode(x).double(), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(crosscoder(x).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_top_k_of_crosscode_is_read_with_a_warning(tmp_path: Path):
    weights = crosscode(tmp_path, "TopkActivation", "{k: 2}")
    with pytest.warns(RuntimeWarning, match="top-k keeps negative codes"):
        crosscoder = exchange.read(tmp_path, site="resid.2")
    x = randn(T, C, D, seed=8)
    pre = torch.einsum("tcd,cdf->tf", x, weights["_W_enc_XiDiL"].squeeze(1)) + weights["b_enc_L"]
    top = pre.topk(2)
    codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    torch.testing.assert_close(crosscoder.encode(x), codes, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_of_crosscode_is_named(tmp_path: Path):
    crosscode(tmp_path, "ReLUActivation", is_folded=torch.tensor(False))
    with pytest.raises(CrosscoderError, match=r"does not keep the scales s_c \(is_folded in .* is false\)"):
        exchange.read(tmp_path, site="resid.2")
    assert exchange.read(tmp_path, site="resid.2", scales=[1.0, 2.0, 3.0]).scales.tolist() == [1, 2, 3]
    crosscode(tmp_path, "BatchTopkActivation", "{k_per_example: 2}")
    with pytest.raises(CrosscoderError, match="'BatchTopkActivation', which is no function of one token"):
        exchange.read(tmp_path, site="resid.2")
    two = {"_W_enc_XiDiL": randn(C, 2, D, F, seed=1), "_W_dec_LXoDo": randn(F, C, 2, D, seed=3)}
    crosscode(tmp_path, "ReLUActivation", **two)
    with pytest.raises(CrosscoderError, match="is of 2 hook points"):
        exchange.read(tmp_path, site="resid.2")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1, 2", "a: &x [*x]\n", "1: 2\n", "!!python/object:os.system {}\n"])
def test_a_configuration_in_yaml_that_is_something_else_is_refused(tmp_path: Path, text: str):
    crosscode(tmp_path, "ReLUActivation")
    (tmp_path / "model_cfg.yaml").write_text(text)
    with pytest.raises(CrosscoderError, match=r"model_cfg\.yaml"):
        exchange.read(tmp_path, site="resid.2")


def saelens(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    save_file(weights, folder / "sae_weights.safetensors")
    metadata = {"model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post", "sae_lens_version": "6.54.0"}
    shared = {"d_in": D, "d_sae": F, "normalize_activations": "none", "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(shared | config))
    return folder


@pytest.mark.parametrize("centred", [True, False])
def test_a_gated_autoencoder_of_saelens_is_a_jumprelu(tmp_path: Path, centred: bool):
    weights = {"W_enc": randn(D, F, seed=1), "W_dec": randn(F, D, seed=2), "b_dec": randn(D, seed=3)}
    weights |= {name: randn(F, seed=seed) for seed, name in enumerate(("b_gate", "b_mag", "r_mag"), start=4)}
    saelens(tmp_path, {"architecture": "gated", "apply_b_dec_to_input": centred}, weights)
    crosscoder = exchange.read(tmp_path)
    w = {name: tensor.double() for name, tensor in weights.items()}
    x = X.double() - w["b_dec"] * centred
    gate = (x @ w["W_enc"] + w["b_gate"]) > 0
    codes = gate * (x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]).relu()
    torch.testing.assert_close(crosscoder.encode(X.unsqueeze(1)).double(), codes, rtol=1e-4, atol=1e-5)
    expected = codes @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(crosscoder(X.unsqueeze(1))[:, 0].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["matching_pursuit", "temporal", "transcoder"])
def test_other_architectures_of_saelens_are_refused_by_name(tmp_path: Path, architecture: str):
    saelens(tmp_path, {"architecture": architecture}, {"W_dec": randn(F, D, seed=2)})
    with pytest.raises(CrosscoderError, match=rf"is of architecture '{architecture}', another function"):
        exchange.read(tmp_path)


def test_a_top_k_by_norms_is_written_with_a_warning_and_read_with_the_codes_of_saelens(tmp_path: Path):
    crosscoder = CrossCoder(Origin("gpt2", ("main",), Site(2), D), F, activation=TopK(F, k=3), seed=1)
    with torch.no_grad():
        crosscoder.W_dec.mul_(torch.linspace(0.5, 3, F)[:, None, None])
    with pytest.warns(RuntimeWarning, match="they are ours times the decoder norm"):
        exchange.write(crosscoder, tmp_path / "out", format="saelens")
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert config["metadata"]["sae_lens_version"] == "6.0.0"
    again, x = exchange.read(tmp_path / "out"), X.unsqueeze(1)
    weights = load_file(tmp_path / "out" / "sae_weights.safetensors")
    norms = weights["W_dec"].norm(dim=1)
    top = ((X @ weights["W_enc"] + weights["b_enc"]) * norms).topk(3)
    codes = torch.zeros(T, F).scatter(1, top.indices, top.values.relu())
    torch.testing.assert_close(again.encode(x), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.encode(x), crosscoder.encode(x) * norms, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again(x), crosscoder(x), rtol=1e-4, atol=1e-5)


def test_one_scale_for_all_checkpoints_of_a_fork_is_read(tmp_path: Path):
    state = {
        "encoder.weight": randn(C, D, F, seed=1),
        "encoder.bias": randn(F, seed=2),
        "decoder.weight": randn(C, F, D, seed=3),
        "decoder.bias": randn(C, D, seed=4),
        "activation_mean": randn(C, D, seed=5),
        "activation_std": randn(C, D, seed=6).abs(),
        "activation_global_scale": torch.tensor(0.5),
    }
    torch.save(state, tmp_path / "state.pt")
    actual = exchange.read(tmp_path / "state.pt", format="finetuning", site="resid.1")
    state["activation_global_scale"] = torch.full((C,), 0.5)
    torch.save(state, tmp_path / "state.pt")
    expected = exchange.read(tmp_path / "state.pt", format="finetuning", site="resid.1")
    x = randn(T, C, D, seed=8)
    assert torch.equal(actual.encode(x), expected.encode(x))
    assert actual.scales.tolist() == [0.5] * C


@pytest.mark.parametrize("format", ["dictionary_learning", "sparsify", "crosscode"])
def test_formats_that_are_read_only_are_not_written(tmp_path: Path, format: str):
    crosscoder = CrossCoder(Origin("gpt2", ("main",), Site(2), D), F)
    with pytest.raises(CrosscoderError, match=rf"the format {format} is read only; crosstime, .* can be written"):
        exchange.write(crosscoder, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()
