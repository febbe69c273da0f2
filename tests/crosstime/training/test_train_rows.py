"""Training on rows that are no activations: weight matrices against the files, batches, scales, resuming, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crosstime.activations.data_config import DataConfig
from crosstime.activations.parameter_rows import parameter_rows
from crosstime.activations.row_batches import RowBatches
from crosstime.activations.row_source import Rows
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import decompose_text
from crosstime.errors import CrosscoderError
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.suites.compute import Compute
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.resume import Checkpointer
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.train_rows import train_rows
from interventions import InterventionError, Site

CONFIG = BatchTopKConfig(n_features=12, k=2, k_start=None, steps=8, lr=1e-2)
DATA = DataConfig(batch_size=16, buffer_tokens=40)
CPU = Compute("cpu")


def noise(n_rows: int = 50, name: str = "noise") -> Rows:
    values = torch.randn(n_rows, 2, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0])[:, None]
    return Rows(name, values, ("step0", "step6"), Site(0))


@pytest.mark.parametrize(
    ("matrix", "parameter", "transposed", "site"),
    [
        ("W_E", "gpt_neox.embed_in.weight", False, "resid.0"),
        ("W_U", "embed_out.weight", False, "resid.1"),
        ("mlp_in.1", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight", False, "mlp.1"),
        ("mlp_out.-2", "gpt_neox.layers.0.mlp.dense_4h_to_h.weight", True, "mlp.0"),
    ],
)
def test_parameter_rows_are_the_tensors_of_the_files(brief_suite, opened, matrix, parameter, transposed, site):
    rows = parameter_rows(brief_suite, matrix, compute=CPU)

    for c, checkpoint in enumerate(brief_suite):
        files = load_file(Path(checkpoint.source) / "model.safetensors")
        # transformers 5 calls the head of GPT-NeoX lm_head in memory, and may write it so
        tensor = files[parameter] if parameter in files else files["lm_head.weight"]
        expected = tensor.T if transposed else tensor
        if matrix.startswith("W_"):
            expected = expected[: len(brief_suite.tokenizer)]
        assert torch.equal(rows.values[:, c], expected)
    name = matrix.replace("-2", "0")
    assert (str(rows.site), rows.revisions, rows.name) == (site, brief_suite.revisions, name)
    expected_label = f"{name} neuron 3" if matrix.startswith("mlp") else brief_suite.tokenizer.decode([3])
    assert rows.labels[3] == expected_label


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ("W_V", "There is no matrix 'W_V'"),
        ("mlp_in", "is written mlp_in.LAYER"),
        ("mlp_in.one", "is written mlp_in.LAYER"),
        ("W_U.1", "has no layer"),
        ("mlp_out.2", "Layer 2 does not exist"),
    ],
)
def test_unknown_matrix_is_refused_before_a_model_is_opened(brief_suite, opened, matrix, sentence):
    with pytest.raises(InterventionError, match=sentence):
        parameter_rows(brief_suite, matrix, compute=CPU)
    assert opened == []


def test_mlp_without_a_gate_names_what_it_has(brief_suite, opened):
    with pytest.raises(InterventionError, match="has no mlp_gate; it has mlp_in, mlp_out"):
        parameter_rows(brief_suite, "mlp_gate.0", compute=CPU)


def test_every_row_is_served_once_per_epoch_and_scales_are_those_of_all_rows():
    source = noise()
    batches = RowBatches(source, DataConfig(batch_size=10, buffer_tokens=50), limit=50)
    served = torch.cat(list(batches))

    def ordered(x):
        return sorted(map(tuple, x.flatten(1).tolist()))

    assert ordered(served) == ordered(source.values)
    for c in range(2):
        norms = [sum(number**2 for number in row) ** 0.5 for row in source.values[:, c].double().tolist()]
        assert batches.scales[c].item() == pytest.approx(6**0.5 * len(norms) / sum(norms), rel=1e-6)


def test_interrupted_training_resumes_to_the_same_bits(tmp_path, monkeypatch):
    whole = train_rows(noise(), CONFIG, data=DATA, device="cpu").crosscoder
    checkpointing, real = Checkpointing(tmp_path / "state.safetensors", every=5), Checkpointer.save

    def save_and_stop(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_rows(noise(), CONFIG, data=DATA, checkpointing=checkpointing, device="cpu")
    monkeypatch.undo()
    with pytest.raises(CrosscoderError, match="not those that training was interrupted on"):
        train_rows(noise(60), CONFIG, data=DATA, checkpointing=checkpointing, device="cpu")
    resumed = train_rows(noise(), CONFIG, data=DATA, checkpointing=checkpointing, device="cpu").crosscoder

    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_crosscoder_of_rows_reads_back_evolves_and_refuses_text(brief_suite, opened, tmp_path):
    rows = parameter_rows(brief_suite, "W_U", compute=CPU)
    train_rows(rows, CONFIG, data=DATA, device="cpu").crosscoder.save(tmp_path / "c.safetensors")
    crosscoder = CrossCoder.load(tmp_path / "c.safetensors")

    assert crosscoder.origin.rows == "W_U"
    assert len(decoder_evolution(crosscoder)["evolution"]) == 12
    with pytest.raises(CrosscoderError, match="trained on rows of W_U"):
        decompose_text(brief_suite, crosscoder, ["a text"], compute=CPU)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": DataConfig(batch_size=64)}, "has 50 rows, fewer than a batch of 64"),
        ({"data": DataConfig(batch_size=16, validation=0.1)}, "validation must be 0"),
    ],
)
def test_options_that_rows_do_not_have_are_refused(options, sentence):
    with pytest.raises(CrosscoderError, match=sentence):
        train_rows(noise(), CONFIG, device="cpu", **options)


def test_rows_that_do_not_fit_are_refused():
    values = torch.ones(4, 2, 3)
    with pytest.raises(CrosscoderError, match="not finite"):
        Rows("w", values.index_fill(0, torch.tensor([2]), torch.nan), ("a", "b"), Site(0))
    with pytest.raises(CrosscoderError, match="rows of 2 checkpoints, but names 1"):
        Rows("w", values, ("a",), Site(0))
    zero = Rows("w", values * torch.tensor([1.0, 0.0])[:, None], ("a", "b"), Site(0))
    with pytest.raises(CrosscoderError, match="at 'b' is zero"):
        RowBatches(zero, DataConfig(batch_size=2), limit=4)
