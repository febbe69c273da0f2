"""SAELens's autoencoders, by its formulas in float64: what it does with a file, we do with it, and the reverse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from random_crosscoders import D, F, activations, crosscoder_of, same_function
from safetensors.torch import load_file, save_file
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders import exchange
from interventions import Site


def their_sae(tensors: dict[str, Tensor], config: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """SAELens' encode and decode for its standard, top-k and JumpReLU architectures."""
    tensors, x = {name: tensor.double() for name, tensor in tensors.items()}, x.double()
    norms = tensors["W_dec"].norm(dim=-1)
    pre = (x - tensors["b_dec"] * config["apply_b_dec_to_input"]) @ tensors["W_enc"] + tensors["b_enc"]
    rescaled = config.get("rescale_acts_by_decoder_norm", False)
    if config["architecture"] == "topk":
        pre = pre * norms if rescaled else pre
        top = pre.topk(config["k"], dim=-1)
        codes = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    elif config["architecture"] == "jumprelu":
        codes = pre.relu() * (pre > tensors["threshold"])
    else:
        codes = pre.relu()
    return codes, (codes / norms if rescaled else codes) @ tensors["W_dec"] + tensors["b_dec"]


def sae_config(architecture: str, **more: Any) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "d_in": D,
        "d_sae": F,
        "apply_b_dec_to_input": True,
        "dtype": "float32",
        "normalize_activations": "none",
        "metadata": {"model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post"},
    } | more


@pytest.mark.parametrize(
    "config",
    [
        sae_config("standard"),
        sae_config("standard", apply_b_dec_to_input=False),
        sae_config("topk", k=3),
        sae_config("topk", k=3, rescale_acts_by_decoder_norm=True),
        sae_config("jumprelu"),
    ],
)
def test_a_saelens_folder_does_what_saelens_does(tmp_path: Path, config: dict[str, Any]):
    tensors = {
        "W_enc": randn(D, F, seed=1),
        "b_enc": randn(F, seed=2),
        "W_dec": randn(F, D, seed=3),
        "b_dec": randn(D, seed=4),
    }
    if config["architecture"] == "jumprelu":
        tensors["threshold"] = randn(F, seed=6).abs() + 0.5
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    actual = exchange.read(tmp_path)
    assert (actual.origin.suite, actual.origin.site, actual.n_checkpoints) == ("gpt2", Site(5), 1)
    x = activations(1)
    codes, reconstruction = their_sae(tensors, config, x[:, 0])
    torch.testing.assert_close(actual.encode(x).double(), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(actual(x)[:, 0].double(), reconstruction, rtol=1e-4, atol=1e-4)
    exchange.write(actual, tmp_path / "again", format="saelens")
    same_function(exchange.read(tmp_path / "again"), actual)


@pytest.mark.filterwarnings("ignore:.*this top-k selects by codes times decoder norm")
@pytest.mark.parametrize("name", ["relu", "topk", "batchtopk", "jumprelu"])
def test_what_we_write_for_saelens_does_there_what_it_does_here(tmp_path: Path, name: str):
    original = crosscoder_of(1, name)
    exchange.write(original, tmp_path / "theirs", format="saelens")
    config = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "blocks.2.hook_resid_post"
    x = activations(1)
    tensors = load_file(tmp_path / "theirs" / "sae_weights.safetensors")
    _, reconstruction = their_sae(tensors, config, x[:, 0])
    torch.testing.assert_close(original(x)[:, 0].double(), reconstruction, rtol=1e-4, atol=1e-4)


def test_older_saelens_configurations_are_read(tmp_path: Path):
    tensors = {
        "W_enc": randn(D, F, seed=1),
        "b_enc": randn(F, seed=2),
        "W_dec": randn(F, D, seed=3),
        "b_dec": randn(D, seed=4),
    }
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    config = {
        "hook_name": "blocks.1.hook_resid_pre",
        "model_name": "gpt2-small",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "normalize_activations": "expected_average_only_in",
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    actual = exchange.read(tmp_path, scales=[2.0])
    assert (actual.origin.site, actual.activation.settings()) == (Site(0), {"k": 3})
    x = activations(1)
    full = config | {"architecture": "topk", "k": 3, "apply_b_dec_to_input": True}
    _, reconstruction = their_sae(tensors, full, x[:, 0] * 2)
    torch.testing.assert_close(actual(x)[:, 0].double() * 2, reconstruction, rtol=1e-4, atol=1e-4)
