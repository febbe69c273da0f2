"""Crosscoders of weight matrices of Learning to Read Out: its formulas by hand in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from seeded_randn import randn

from crosstime.activations.parameter_rows import parameter_rows
from crosstime.crosscoders import exchange
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.llamascopium import THRESHOLD
from crosstime.errors import CrosscoderError
from crosstime.features.top_rows import top_rows
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.training.evaluate_rows import evaluate_rows

F = 12
CPU = Compute("cpu")


def release(folder: Path, suite: Suite, preparation: str | None = "center_scale", **changes: object) -> Path:
    n, width = len(suite), suite.d_model

    tensors = {
        "W_E": 0.3 * randn(n, width, F, seed=1),
        "b_E": 0.3 * randn(n, F, seed=2),
        "W_D": 0.3 * randn(n, F, width, seed=3) * torch.tensor([0.4, 1.5])[:, None, None],
        "b_D": randn(n, width, seed=4),
        THRESHOLD: 0.2 * randn(F, seed=5) - 0.5,
    }
    config = {
        "steps": [checkpoint.step for checkpoint in suite],
        "model_name": "tiny",
        "seed": 0,
        "quality": {"explained_variance": 0.9},
        "training": {"lr": 5e-5, "input_preprocess": preparation},
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "seed0.safetensors")
    (folder / "seed0.config.json").write_text(json.dumps(config | changes))
    return folder / "seed0.safetensors"


def theirs(path: Path, rows: list[torch.Tensor], preparation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes T C F, and reconstructions T C D in units of the matrices, from all rows of each matrix."""
    tensors = {name: tensor.double() for name, tensor in load_file(path).items()}
    means, scales, prepared = [], [], []
    for matrix in rows:
        mean = matrix.double().mean(0) if preparation != "none" else torch.zeros(matrix.shape[1]).double()
        centred = matrix.double() - mean
        squares = sum((row * row).sum() for row in centred) / len(centred)
        scale = (squares / matrix.shape[1]).sqrt() if preparation == "center_scale" else torch.tensor(1.0)
        means.append(mean)
        scales.append(scale)
        prepared.append(centred / scale)
    joint = sum(x @ tensors["W_E"][k] + tensors["b_E"][k] for k, x in enumerate(prepared))
    codes, out = [], []
    for k in range(len(rows)):
        gate = joint * tensors["W_D"][k].norm(dim=-1) > tensors[THRESHOLD].exp()
        codes.append(joint * gate)
        out.append((codes[-1] @ tensors["W_D"][k] + tensors["b_D"][k]) * scales[k] + means[k])
    return torch.stack(codes, 1), torch.stack(out, 1)


@pytest.mark.parametrize("preparation", ["none", "center", "center_scale"])
def test_codes_are_those_of_the_release(brief_suite, opened, tmp_path, preparation):
    path = release(tmp_path, brief_suite, preparation)
    crosscoder = exchange.read_readout(path, brief_suite, compute=CPU)
    assert (crosscoder.origin.rows, crosscoder.origin.revisions) == ("W_U", brief_suite.revisions)

    # All rows of the matrices, also those that stand for no token
    matrices = []
    for checkpoint in brief_suite:
        files = load_file(Path(checkpoint.source) / "model.safetensors")
        matrices.append(files.get("embed_out.weight", files.get("lm_head.weight")))
    codes, reconstruction = theirs(path, matrices, preparation)
    x = torch.stack(matrices, 1).float()
    assert 0.02 < (codes != 0).double().mean() < 0.98
    torch.testing.assert_close(crosscoder.encode(x).double(), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(crosscoder(x).double(), reconstruction, rtol=1e-4, atol=1e-4)

    # Saved, it is one of ours
    crosscoder.save(tmp_path / "ours.safetensors")
    rows = parameter_rows(brief_suite, "W_U", compute=CPU)
    assert len(evaluate_rows(CrossCoder.load(tmp_path / "ours.safetensors"), rows)) == len(brief_suite)
    assert len(top_rows(crosscoder, rows))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": None}, "has no steps"),
        ({"steps": [0, 7]}, "is of 2 steps, of which suite 'mine' lacks 7"),
        ({"steps": [0]}, "b_E"),
        ({"training": {}}, "does not say how rows were prepared"),
        ({"training": {"input_preprocess": "centre"}}, "there is no preparation 'centre' of rows"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(brief_suite, opened, tmp_path, changes, sentence):
    with pytest.raises(CrosscoderError, match=sentence):
        exchange.read_readout(release(tmp_path, brief_suite, **changes), brief_suite, compute=CPU)
    assert opened == []


def test_other_tensors_and_missing_files_are_refused(brief_suite, opened, tmp_path):
    path = release(tmp_path, brief_suite)
    tensors = load_file(path)
    gated = {name: tensor for name, tensor in tensors.items() if name != THRESHOLD}
    save_file(gated | {"activation_function.b_gate": torch.zeros(F)}, path)
    with pytest.raises(CrosscoderError, match="log_jumprelu_threshold"):
        exchange.read_readout(path, brief_suite, compute=CPU)
    (tmp_path / "seed0.config.json").unlink()
    with pytest.raises(CrosscoderError, match=r"seed0\.config\.json"):
        exchange.read_readout(path, brief_suite, compute=CPU)
    with pytest.raises(CrosscoderError, match=r"is no \.safetensors file"):
        exchange.read_readout(tmp_path, brief_suite, compute=CPU)


def test_what_the_caller_says_about_the_rows_counts(brief_suite, opened, tmp_path):
    silent = release(tmp_path / "silent", brief_suite, None)
    stated = release(tmp_path / "said", brief_suite, "center")
    crosscoder = exchange.read_readout(silent, brief_suite, prepared="center", compute=CPU)
    two = exchange.read_readout(stated, brief_suite, compute=CPU)
    assert torch.equal(crosscoder.b_dec, two.b_dec)
    assert torch.equal(crosscoder.scales, two.scales)
