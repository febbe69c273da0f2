"""Folders of llamascopium's crosscoder: its formulas by hand in float64, and the library where it is installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders import exchange
from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU, PerCheckpointJumpReLU, ReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.llamascopium import THRESHOLD, expansion_factor
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Site

D, F, T = 6, 15, 40
STEPS = ("step0", "step2", "step512", "step1000", "main")
# The benchmarks are no part of the installed package
peer = pytest.importorskip("benchmarks.peers.peer", reason="benchmarks are not here")
needs_tools = pytest.mark.skipif(peer.environment() is None, reason=peer.MISSING)


def state(n: int) -> dict[str, Tensor]:
    """Tensors as their `save_pretrained` names them."""
    tensors = {
        "W_E": randn(n, D, F, seed=1), "b_E": randn(n, F, seed=2), "W_D": randn(n, F, D, seed=3),
        "b_D": randn(n, D, seed=4), THRESHOLD: randn(F, seed=5) * 0.5 + 0.7,
    }  # fmt: skip
    norms = (randn(n, seed=6).abs() + 0.5) * 3
    return tensors | {f"dataset_average_activation_norm.{STEPS[c]}": norms[c].clone() for c in range(n)}


def config_of(n: int, **more: Any) -> dict[str, Any]:
    return {
        "sae_type": "crosscoder", "d_model": D, "expansion_factor": F / D, "use_decoder_bias": True,
        "act_fn": "jumprelu", "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True, "top_k": 50,
        "use_triton_kernel": False, "sparsity_threshold_for_triton_spmm_kernel": 0.996,
        "jumprelu_threshold_window": 4.0, "hook_points": list(STEPS[:n]),
    } | more  # fmt: skip


def put(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def their_crosscoder(tensors: dict[str, Tensor], config: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """`Crosscoder.encode` and `decode` after `normalize_activations`, before `denormalize_activations`, by hand."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    norms = [tensors[f"dataset_average_activation_norm.{hook}"] for hook in config["hook_points"]]
    scales = torch.stack([D**0.5 / norm for norm in norms]).reshape(-1, 1)
    if config["norm_activation"] == "inference":
        scales = torch.ones_like(scales)
    scaled = x.double() * scales
    codes = torch.zeros(len(x), len(norms), F, dtype=torch.float64)
    out = torch.zeros_like(scaled)
    for token in range(len(x)):
        pre = sum(scaled[token, c] @ tensors["W_E"][c] + tensors["b_E"][c] for c in range(len(norms)))
        for c in range(len(norms)):
            weighted = pre * tensors["W_D"][c].norm(dim=1)
            floor = tensors[THRESHOLD].exp() if config["act_fn"] == "jumprelu" else 0.0
            codes[token, c] = weighted * (weighted > floor) / tensors["W_D"][c].norm(dim=1)
            out[token, c] = codes[token, c] @ tensors["W_D"][c] + tensors["b_D"][c]
    return codes, out / scales


def by_checkpoint(codes: Tensor, n: int) -> Tensor:
    """Codes ``T C F``, also of a crosscoder with one gate for all checkpoints."""
    return codes if codes.dim() == 3 else codes.unsqueeze(1).expand(-1, n, -1)


def same_function(crosscoder: CrossCoder, x: Tensor, codes: Tensor, reconstruction: Tensor) -> None:
    actual = by_checkpoint(crosscoder.encode(x), crosscoder.n_checkpoints).double()
    assert 0.05 < (codes > 0).double().mean() < 0.95
    torch.testing.assert_close(actual, codes.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(crosscoder(x).double(), reconstruction.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("more", [{}, {"norm_activation": "inference"}, {"act_fn": "relu"}])
def test_a_folder_does_what_llamascopium_does(tmp_path: Path, n: int, more: dict[str, Any]):
    tensors, config = state(n), config_of(n, **more)
    if config["act_fn"] == "relu":
        del tensors[THRESHOLD]
    folder = put(tmp_path / "theirs", tensors, config)
    assert exchange.detect(folder) == exchange.detect(folder / "sae_weights.safetensors") == "llamascopium"
    actual = exchange.read(folder, site="resid.6")
    assert (actual.origin.revisions, actual.origin.site, actual.origin.suite) == (STEPS[:n], Site(6), "theirs")
    assert actual.activation.name == ("relu" if config["act_fn"] == "relu" else "jumprelu_per_checkpoint")
    x = randn(T, n, D, seed=9)
    codes, reconstruction = their_crosscoder(tensors, config, x)
    if n > 1 and config["act_fn"] == "jumprelu":
        assert ((codes > 0).any(1) & ~(codes > 0).all(1)).any()
    same_function(actual, x, codes, reconstruction)


def ours(n: int, activation: Activation) -> CrossCoder:
    origin = Origin("tiny", STEPS[:n], Site(2, "mlp"), D, {"seed": 7})
    crosscoder = CrossCoder(origin, F, torch.tensor([0.5, 2.0, 1.25, 4.0, 0.1])[:n], activation=activation)
    with torch.no_grad():
        for number, name in enumerate(("W_enc", "b_enc", "W_dec", "b_dec")):
            getattr(crosscoder, name).copy_(randn(*getattr(crosscoder, name).shape, seed=20 + number) * 0.7)
        if isinstance(activation, JumpReLU):
            activation.log_threshold.copy_(randn(F, seed=30) * 0.5)
    return crosscoder.eval()


def gated() -> PerCheckpointJumpReLU:
    return PerCheckpointJumpReLU(F, bandwidth=3.0)


CASES = [(n, kind) for n in (1, 2, 5) for kind in (gated, ReLU)] + [(1, lambda: JumpReLU(F, bandwidth=3.0))]


@pytest.mark.parametrize(("n", "kind"), CASES)
def test_a_crosscoder_comes_back_as_it_went(tmp_path: Path, n: int, kind):
    original = ours(n, kind())
    exchange.write(original, tmp_path / "mine", format="llamascopium")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"config.json", "sae_weights.safetensors"}
    actual = exchange.read(tmp_path / "mine")
    x = randn(T, n, D, seed=9)
    same_function(actual, x, by_checkpoint(original.encode(x), n), original(x))
    assert actual.origin == original.origin
    assert actual.activation.settings() == original.activation.settings()
    torch.testing.assert_close(actual.scales, original.scales)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.equal(getattr(actual, name), getattr(original, name))


@pytest.mark.parametrize(("n", "kind"), CASES)
def test_what_is_written_does_in_their_formulas_what_it_does_here(tmp_path: Path, n: int, kind):
    original = ours(n, kind())
    exchange.write(original, tmp_path / "mine", format="llamascopium")
    tensors = load_file(tmp_path / "mine" / "sae_weights.safetensors")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert int(config["d_model"] * config["expansion_factor"]) == F
    x = randn(T, n, D, seed=9)
    same_function(original, x, *their_crosscoder(tensors, config, x))


def test_any_number_of_features_has_an_expansion_factor():
    for n_features in (*range(1, 40), 24_576, 32_768, 1_000_003):
        for width in (3, 7, 768, 4096):
            assert int(width * json.loads(json.dumps(expansion_factor(n_features, width)))) == n_features


STEP0, STEP2 = (f"dataset_average_activation_norm.{step}" for step in STEPS[:2])


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({}, {"sae_type": "sae"}, "config.json is of llamascopium's class 'sae'; only its class 'crosscoder'"),
        ({}, {"sae_type": "clt"}, "is of llamascopium's class 'clt'; only its class 'crosscoder'"),
        ({}, {"sae_type": None}, "is of llamascopium's class None; only its class 'crosscoder'"),
        ({"b_D": None}, {}, "it has no tensor b_D, only W_D, W_E, activation_function.log_jumprelu_threshold, b_E"),
        ({"W_E": None}, {}, "it has no tensor W_E, only"),
        ({THRESHOLD: None}, {}, "it has no tensor activation_function.log_jumprelu_threshold, only"),
        ({}, {"act_fn": "relu"}, "unknown tensor: activation_function.log_jumprelu_threshold"),
        ({STEP0: None}, {}, "it has no tensor dataset_average_activation_norm.step0, although it has"),
        ({STEP0: None, STEP2: None}, {}, "does not keep the scales s_c"),
        ({STEP0: torch.tensor(0.0)}, {}, "mean norms .* must be positive"),
        ({"b_E": torch.zeros(F)}, {}, r"b_E has shape \(15,\), not \(2, any\)"),
        ({"W_D": torch.zeros(2, D, F)}, {}, "does not fit W_D"),
        ({"W_D": torch.tensor(0.0)}, {}, r"W_D has shape \(\), not \(2, any, any\)"),
        ({"W_E": torch.full((2, D, F), torch.nan)}, {}, "W_E has numbers that are not finite: all of them are NaN"),
        ({THRESHOLD: torch.full((F,), torch.nan)}, {}, "log_jumprelu_threshold has values that are not a number"),
        ({}, {"act_fn": "batchtopk"}, "says act_fn 'batchtopk', another function than"),
        ({}, {"norm_activation": "token-wise"}, "says norm_activation 'token-wise', which one scale"),
        ({}, {"sparsity_include_decoder_norm": False}, "says sparsity_include_decoder_norm false"),
        ({}, {"expansion_factor": 4}, "says expansion_factor 4, which gives 24 features, but the weights have 15"),
        ({}, {"d_model": 7}, "says d_model 7, but the weights have 6"),
        ({}, {"d_head": 7}, "not known here, .*: d_head; "),
        ({}, {"hook_points": None}, "has no hook_points, which name the checkpoints"),
        ({}, {"hook_points": ["step0"]}, "unknown tensor: dataset_average_activation_norm.step2"),
        ({}, {"jumprelu_threshold_window": -1}, "jumprelu_threshold_window must be a positive number, not -1"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_read_are_refused_by_name(tmp_path: Path, tensors, config, message: str):
    tensors_left = {name: tensor for name, tensor in (state(2) | tensors).items() if tensor is not None}
    folder = put(tmp_path / "theirs", tensors_left, config_of(2, **config))
    with pytest.raises(CrosscoderError, match=message):
        exchange.read(folder, site="resid.6")


def test_the_site_is_asked_for_and_layers_are_no_checkpoints(tmp_path: Path):
    folder = put(tmp_path / "theirs", state(2), config_of(2))
    with pytest.raises(CrosscoderError, match=r"does not say at which site .* site='resid\.8'"):
        exchange.read(folder)
    hooks = ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]
    tensors = {name: tensor for name, tensor in state(2).items() if name not in (STEP0, STEP2)}
    tensors |= {f"dataset_average_activation_norm.{hook}": torch.tensor(1.0) for hook in hooks}
    with pytest.raises(CrosscoderError, match="a crosscoder of several layers is none of several checkpoints"):
        exchange.read(put(tmp_path / "layers", tensors, config_of(2, hook_points=hooks)), site="resid.1")


@pytest.mark.parametrize("name", ["sae_weights.pt", "sae_weights.dcp"])
def test_weights_of_another_kind_of_file_are_named(tmp_path: Path, name: str):
    (tmp_path / "config.json").write_text(json.dumps(config_of(2)))
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CrosscoderError, match=rf"{name} is not read: load it with llamascopium"):
        exchange.read(tmp_path, site="resid.1")


@pytest.mark.parametrize(
    ("crosscoder", "message"),
    [
        (ours(2, BatchTopK(F, k=3)), "holds relu and jumprelu_per_checkpoint, not batchtopk of 2 checkpoints"),
        (ours(2, JumpReLU(F)), "not jumprelu of 2 checkpoints; take crosstime"),
        (ours(2, gated()).fold(), "no place for the decoder norms of before folding"),
    ],
)
def test_kinds_that_have_no_place_are_refused(tmp_path: Path, crosscoder: CrossCoder, message: str):
    with pytest.raises(CrosscoderError, match=message):
        exchange.write(crosscoder, tmp_path / "mine", format="llamascopium")
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_norm_of_zero_is_told_because_their_codes_are_nan(tmp_path: Path):
    crosscoder = ours(2, gated())
    with torch.no_grad():
        crosscoder.W_dec[3, 1] = 0
    with pytest.warns(
        RuntimeWarning, match="1 features have a decoder norm of zero at a checkpoint, where llamascopium"
    ):
        exchange.write(crosscoder, tmp_path / "mine", format="llamascopium")
    assert exchange.read(tmp_path / "mine").encode(randn(T, 2, D, seed=9))[:, 1, 3].eq(0).all()


def run_theirs(*arguments: object) -> None:
    script = [peer.environment(), peer.HERE / "llamascopium_exchange.py", *arguments]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]


def computed_there(folder: Path, x: Tensor, tmp_path: Path) -> dict[str, Tensor]:
    save_file({"x": x}, tmp_path / "in.safetensors")
    run_theirs("load", folder, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    return load_file(tmp_path / "out.safetensors")


def same_as_theirs(crosscoder: CrossCoder, x: Tensor, actual: dict[str, Tensor]) -> None:
    """Codes, reconstruction, and both parts of the loss with their formulas, computed from our codes in float64."""
    same_function(crosscoder, x, actual["codes"], actual["reconstruction"])
    scales = crosscoder.scales.unsqueeze(-1)
    error = ((crosscoder(x) - x) * scales).double().square().sum(-1)
    codes = by_checkpoint(crosscoder.encode(x), crosscoder.n_checkpoints).double()
    penalty = torch.tanh(4 * codes * crosscoder.decoder_norms().double()).sum(-1)
    assert actual["l2"].mean().item() == pytest.approx(error.mean().item(), rel=1e-5)
    assert actual["tanh"].mean().item() == pytest.approx(0.3 * penalty.mean().item(), rel=1e-5)
    assert actual["loss"].mean().item() == pytest.approx((error + 0.3 * penalty).mean().item(), rel=1e-5)


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize(("n", "kind"), [(1, gated), (2, gated), (5, gated), (3, ReLU)])
def test_llamascopium_computes_the_same_from_what_is_written(tmp_path: Path, n: int, kind):
    original = ours(n, kind())
    exchange.write(original, tmp_path / "mine", format="llamascopium")
    x = randn(T, n, D, seed=9)
    same_as_theirs(original, x, computed_there(tmp_path / "mine", x, tmp_path))


@needs_tools
@pytest.mark.long
@pytest.mark.parametrize(
    ("function", "norm"), [("jumprelu", "dataset-wise"), ("jumprelu", "inference"), ("relu", "dataset-wise")]
)
def test_a_folder_that_llamascopium_wrote_computes_the_same_here(tmp_path: Path, function: str, norm: str):
    run_theirs("save", tmp_path / "theirs", function, norm)
    actual = exchange.read(tmp_path / "theirs", site="resid.6")
    assert actual.origin.revisions == ("step0", "step512", "main")
    x = randn(T, 3, D, seed=9)
    same_as_theirs(actual, x, computed_there(tmp_path / "theirs", x, tmp_path))
