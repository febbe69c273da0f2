"""Tokens of huge norm: they are named, can be left out, and have numbers of their own beside the others."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from table_activations import use_table

import crosstime as ct
from crosstime.activations.buffer import ActivationBuffer
from crosstime.crosscoders.evaluate import _reconstruction
from crosstime.errors import CrosscoderError
from crosstime.report.outlier_note import outlier_note
from crosstime.suites.token_norms import NormConcentration, is_outlier, token_norms
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.trainer import Trainer
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(200, seed=3))
SITE = Site(0)
DATA = ct.DataConfig(batch_size=32, sequence_length=8, buffer_tokens=200)
CUT = replace(DATA, max_activation_norm_multiple=10.0)
CONFIG = ct.L1Config(n_features=12, steps=30, lr=3e-3, l1=0.05)
LENGTH = 7


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    """Activations of 400 tokens at two checkpoints; one is huge at both, one in twenty at the second only."""
    table = torch.randn(400, 2, 16, generator=torch.Generator().manual_seed(7))
    table[5] *= 300
    table[::20, 1] *= 40
    return table


@pytest.fixture(autouse=True)
def _activations_of_the_table(monkeypatch, table: torch.Tensor) -> None:
    use_table(monkeypatch, table)


def rows(count: int = 90) -> list[torch.Tensor]:
    return list(torch.randint(0, 400, (count, LENGTH), generator=torch.Generator().manual_seed(4)))


def filling(table: torch.Tensor, n_tokens: int) -> np.ndarray:
    """Norms of the tokens that fill a buffer of a size: whole rows without their first tokens."""
    ids = torch.cat([row[1:] for row in rows()])[: -(-n_tokens // (LENGTH - 1)) * (LENGTH - 1)]
    return np.linalg.norm(table[ids].double().numpy(), axis=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_concentration_is_that_of_a_sorted_list(dtype: torch.dtype):
    x = torch.randn(3500, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[17], x[99] = x[17] * 50, x[99] * 20
    norms = np.linalg.norm(x.double().numpy(), axis=1)
    concentration = NormConcentration.of(token_norms(x))
    largest = np.sort(norms**2)[-4:].sum()
    assert concentration.outliers == (norms > 10 * np.sort(norms)[1749]).sum() == 2
    assert concentration.top_share == pytest.approx(largest / (norms**2).sum(), rel=1e-3)
    assert concentration.matters
    assert not NormConcentration.of(token_norms(x[200:])).matters


def test_tokens_above_the_multiple_at_any_checkpoint_are_left_out(brief_suite: ct.Suite, table: torch.Tensor):
    buffer = ActivationBuffer(brief_suite, SITE, iter(rows()), CUT)
    norms = filling(table, 200)
    medians = np.sort(norms, axis=0)[(len(norms) - 1) // 2]
    usual = (norms <= 10 * medians).all(1)
    assert 0 < (~usual).sum() == buffer.left_out
    assert buffer.tokens == usual.sum()
    assert buffer.scales.tolist() == pytest.approx(4 / norms[usual].mean(0), rel=1e-5)

    # Later fillings are cut by the same medians, and every other token is served once
    served = torch.cat(list(buffer))
    everything = filling(table, 90 * (LENGTH - 1))
    expected = everything[(everything <= 10 * medians).all(1)]
    assert buffer.tokens == len(expected)
    assert len(served) == len(expected) // 32 * 32
    norms_served = np.sort(np.linalg.norm(served.double().numpy(), axis=-1)[:, 1])
    assert np.isin(norms_served.round(4), expected[:, 1].round(4)).all()


def test_as_many_tokens_are_served_as_training_asks_for(brief_suite: ct.Suite):
    # So many are left out that one reading does not fill a batch
    data = ct.DataConfig(batch_size=64, buffer_tokens=64, max_activation_norm_multiple=1.05)
    endless = (row for _ in range(100) for row in rows())
    buffer = ActivationBuffer(brief_suite, SITE, endless, data, limit=640)
    assert [len(batch) for batch in buffer] == [64] * 10
    assert buffer.tokens == 640
    assert buffer.left_out > 640


def test_scales_by_the_median_norm(brief_suite: ct.Suite, table: torch.Tensor):
    with pytest.warns(RuntimeWarning, match="a few tokens are of huge norm"):
        buffer = ActivationBuffer(brief_suite, SITE, iter(rows()), replace(DATA, scale_by="median"))
    norms = filling(table, 200)
    assert buffer.scales.tolist() == pytest.approx(4 / np.sort(norms, axis=0)[(len(norms) - 1) // 2], rel=1e-5)
    assert buffer.left_out == 0


def test_the_first_filling_says_where_a_few_tokens_have_most_of_the_norm(brief_suite: ct.Suite, table: torch.Tensor):
    norms = filling(table, 200)[:, 0]
    share = np.sort(norms**2)[-1:].sum() / (norms**2).sum()
    message = rf"at 'step\d+' .*have {share:.0%} of the squared norm" if share > 0.9 else "a few tokens"
    with pytest.warns(RuntimeWarning, match=message):
        ActivationBuffer(brief_suite, SITE, iter(rows()), DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ActivationBuffer(brief_suite, SITE, iter(rows()), CUT)


def test_a_store_is_cut_as_text_is(brief_suite: ct.Suite, tmp_path: Path):
    store = ct.harvest(brief_suite, SITE, TEXT, tmp_path / "store", sequence_length=8)
    data = ct.DataConfig(batch_size=16, buffer_tokens=store.n_tokens, max_activation_norm_multiple=1.1)
    batches = store.batches(data)
    x = torch.cat([store.rows(shard, 0, store.shard_tokens(shard)) for shard in range(len(store.manifest["shards"]))])
    norms = np.linalg.norm(x.double().numpy(), axis=-1)
    usual = (norms <= np.float32(1.1) * np.sort(norms, axis=0)[(len(norms) - 1) // 2]).all(1)
    assert batches.left_out == pytest.approx((~usual).sum(), abs=2)
    assert 0 < batches.left_out < store.n_tokens
    assert batches.scales.tolist() == pytest.approx(4 / norms[usual].mean(0), rel=1e-3)
    assert store.batches(replace(data, max_activation_norm_multiple=None)).scales.equal(store.scales)


def test_training_resumes_with_the_same_cut(brief_suite: ct.Suite, tmp_path: Path, monkeypatch):
    state, update = tmp_path / "state.safetensors", Trainer.update
    whole = ct.train(brief_suite, SITE, TEXT, CONFIG, data=CUT)

    def failing(self: Trainer, step: int, x: torch.Tensor) -> torch.Tensor:
        if step == 20:
            raise InterruptedError
        return update(self, step, x)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", failing)
        with pytest.raises(InterruptedError):
            ct.train(brief_suite, SITE, TEXT, CONFIG, data=CUT, checkpointing=Checkpointing(state, 7))
    other = replace(CUT, max_activation_norm_multiple=20.0)
    with pytest.raises(CrosscoderError, match=r"max_activation_norm_multiple was 10.0 and is now 20.0"):
        ct.train(brief_suite, SITE, TEXT, CONFIG, data=other, checkpointing=Checkpointing(state, 7))
    resumed = ct.train(brief_suite, SITE, TEXT, CONFIG, data=CUT, checkpointing=Checkpointing(state, 7))
    for name, weights in whole.crosscoder.state_dict().items():
        assert torch.equal(resumed.crosscoder.state_dict()[name], weights)
    facts = resumed.crosscoder.origin.training
    assert facts == whole.crosscoder.origin.training
    assert facts["max_activation_norm_multiple"] == 10.0
    assert facts["tokens_left_out"] > 0


def test_settings_that_make_no_sense_are_refused():
    for multiple in (1.0, 0.5, -3.0, float("nan"), float("inf")):
        with pytest.raises(CrosscoderError, match="max_activation_norm_multiple must be above 1"):
            ct.DataConfig(max_activation_norm_multiple=multiple)
    with pytest.raises(CrosscoderError, match=r"there is no scale_by 'medain': .*median"):
        ct.DataConfig(scale_by="medain")
    assert DATA.norm_settings() == {}


def test_variance_explained_without_outliers_beside_it(learning_crosscoder: ct.CrossCoder):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 500, learning_crosscoder.origin.d_model, generator=generator)
    x[1, 7] *= 1000
    decomposition = learning_crosscoder.decompose(x)[1]
    measured = torch.ones(500, dtype=torch.bool)
    measured[0] = False
    row = _reconstruction(decomposition, measured, learning_crosscoder.scales[1])

    usual = np.ones(500, dtype=bool)
    usual[[0, 7]] = False
    for name, mask in (("fve", measured.numpy()), ("fve_without_outliers", usual)):
        values = x[1].double().numpy()[mask]
        error = values - decomposition.reconstruction.double().numpy()[mask]
        expected = 1 - (error**2).sum() / ((values - values.mean(0)) ** 2).sum()
        assert row[name] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert row["outliers"] == 1
    assert row["top_norm_share"] > 0.99
    assert row["fve"] != pytest.approx(row["fve_without_outliers"], abs=0.01)
    assert is_outlier(token_norms(x[1])).nonzero().squeeze().item() == 7

    table = pd.DataFrame([row | {"revision": "step8"}])
    note = outlier_note(table)
    assert note is not None
    assert f"{row['fve_without_outliers']:.3f} without" in note.replace("\N{MINUS SIGN}", "-")
    assert outlier_note(table.assign(outliers=0)) is None
