from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.evaluate import MEASURES, evaluate, evaluate_seeds, over_seeds
from crosstime.errors import CorpusError, CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Site
from tasks.agreement import sentences

HELD_OUT = list(sentences(120, seed=11))
LENGTH, COUNT = 12, 9
SAMPLE = TextSample(COUNT, LENGTH)


@pytest.fixture(scope="module")
def suite(learning_suite: Suite) -> Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder: CrossCoder) -> CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def table(suite: Suite, crosscoder: CrossCoder) -> pd.DataFrame:
    return evaluate(suite, crosscoder, HELD_OUT, sample=SAMPLE)


@pytest.fixture(scope="module")
def rows(suite: Suite) -> torch.Tensor:
    """The text as sequences: documents in their order with the end token after each."""
    ids = [token for line in HELD_OUT for token in [*suite.tokenizer(line)["input_ids"], suite.tokenizer.eos_token_id]]
    return torch.tensor(ids[: COUNT * LENGTH]).reshape(COUNT, LENGTH)


@pytest.fixture(scope="module")
def hidden(suite: Suite, rows: torch.Tensor) -> torch.Tensor:
    """Activations after block 0 of every checkpoint: ``C N S D``."""
    hidden_states = []
    for checkpoint in suite:
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source).eval()
        with torch.no_grad():
            hidden_states.append(model(rows, output_hidden_states=True).hidden_states[1])
    return torch.stack(hidden_states)


def loss(suite: Suite, revision: str, rows: torch.Tensor, replacement: torch.Tensor | None) -> float:
    """Next-token loss of the bare model with block 0's output replaced."""
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    if replacement is not None:
        model.gpt_neox.layers[0].register_forward_hook(lambda module, inputs, output: replacement)
    with torch.no_grad():
        logits = model(rows).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()).item()


def test_losses_are_those_of_the_bare_model_with_the_activation_replaced(
    suite: Suite, crosscoder: CrossCoder, table: pd.DataFrame, rows: torch.Tensor, hidden: torch.Tensor
):
    with torch.no_grad():
        reconstruction = crosscoder(hidden.permute(1, 2, 0, 3).flatten(0, 1)).reshape(COUNT, LENGTH, 3, 16)
    for c, revision in enumerate(suite.revisions):
        row = table.set_index("revision").loc[revision]
        clean = loss(suite, revision, rows, None)
        spliced = loss(suite, revision, rows, reconstruction[:, :, c])
        zero = loss(suite, revision, rows, torch.zeros_like(hidden[c]))
        assert (row.ce_clean, row.ce_spliced, row.ce_zero) == pytest.approx((clean, spliced, zero), abs=1e-4)


def test_recovered_loss_is_the_share_of_what_zero_costs(table: pd.DataFrame):
    row = table.set_index("revision").loc["step40"]
    assert row.ce_zero > row.ce_spliced > row.ce_clean
    assert row.ce_recovered == pytest.approx((row.ce_zero - row.ce_spliced) / (row.ce_zero - row.ce_clean))
    assert 0 < row.ce_recovered < 1


def test_variance_and_sparsity_leave_first_tokens_out(
    suite: Suite, crosscoder: CrossCoder, table: pd.DataFrame, hidden: torch.Tensor
):
    later = hidden[:, :, 1:].flatten(1, 2).transpose(0, 1)
    with torch.no_grad():
        codes, error = crosscoder.encode(later), later - crosscoder(later)
    assert table.l0.tolist() == pytest.approx([(codes > 0).sum().item() / len(later)] * 3)
    assert table.alive.tolist() == pytest.approx([(codes > 0).any(0).double().mean().item()] * 3)
    for c, explained in enumerate(table.fve):
        spread = ((later[:, c] - later[:, c].mean(0)) ** 2).sum()
        assert explained == pytest.approx(1 - ((error[:, c] ** 2).sum() / spread).item(), abs=1e-4)
    assert 0 < table.alive[0] <= 1
    assert 0 < table.l0[0] < crosscoder.n_features


def test_a_row_for_every_checkpoint_of_the_crosscoder(suite: Suite, table: pd.DataFrame):
    assert table.revision.tolist() == list(suite.revisions)
    assert list(table.columns) == [
        "revision",
        "l0",
        "dead",
        "alive",
        "fve",
        "fve_without_outliers",
        "outliers",
        "top_norm_share",
        "error",
        "ce_clean",
        "ce_spliced",
        "ce_zero",
        "ce_delta",
        "ce_recovered",
    ]


def test_a_budget_of_few_tokens_gives_the_same_numbers(suite, crosscoder: CrossCoder, table: pd.DataFrame, opened):
    small = evaluate(
        suite,
        crosscoder,
        HELD_OUT,
        sample=SAMPLE,
        compute=Compute(max_tokens=2 * LENGTH),
    )
    pd.testing.assert_frame_equal(small, table, rtol=1e-4)


def test_a_crosscoder_of_other_checkpoints_is_refused(suite: Suite, crosscoder: CrossCoder):
    with pytest.raises(CrosscoderError, match="has no step10; it has step0, step40"):
        evaluate(suite.select(["step0", "step40"]), crosscoder, HELD_OUT)


def test_text_too_short_for_one_sequence_is_named(suite: Suite, crosscoder: CrossCoder):
    with pytest.raises(CorpusError, match="too few for one sequence of 64"):
        evaluate(suite, crosscoder, ["the cat"])


def test_error_is_the_loss_of_training_at_each_checkpoint(
    crosscoder: CrossCoder, table: pd.DataFrame, hidden: torch.Tensor
):
    later = hidden[:, :, 1:].flatten(1, 2).transpose(0, 1)
    with torch.no_grad():
        error = (later - crosscoder(later)) * crosscoder.scales.reshape(1, 3, 1)
    assert table.error.tolist() == pytest.approx(error.square().sum(-1).mean(0).tolist(), rel=1e-4)


def test_dead_features_and_loss_added_are_counts_and_differences(crosscoder: CrossCoder, table: pd.DataFrame):
    assert table.dead.tolist() == [round((1 - alive) * crosscoder.n_features) for alive in table.alive]
    assert table.ce_delta.tolist() == pytest.approx((table.ce_spliced - table.ce_clean).tolist())


@pytest.fixture(scope="module")
def seeds(suite: Suite, crosscoder: CrossCoder) -> list[CrossCoder]:
    """Three crosscoders: the trained one, and two of other seeds that know nothing."""
    untrained = []
    for seed in (1, 2):
        origin = replace(crosscoder.origin, training={"seed": seed})
        untrained.append(CrossCoder(origin, 24, crosscoder.scales, decoder_norm=0.5, seed=seed))
    return [crosscoder, *untrained]


@pytest.fixture(scope="module")
def per_seed(suite: Suite, seeds: list[CrossCoder]) -> pd.DataFrame:
    return evaluate_seeds(suite, seeds, HELD_OUT, sample=SAMPLE)


def test_seeds_are_evaluated_as_if_alone(
    suite: Suite, seeds: list[CrossCoder], per_seed: pd.DataFrame, table: pd.DataFrame, opened: list[str]
):
    assert per_seed.seed.tolist() == [seed for seed in (124, 1, 2) for _ in range(3)]
    first = per_seed[per_seed.seed == 124].drop(columns="seed").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, table)
    alone = evaluate(suite, seeds[2], HELD_OUT, sample=SAMPLE)
    pd.testing.assert_frame_equal(per_seed[per_seed.seed == 2].drop(columns="seed").reset_index(drop=True), alone)


def test_without_memory_for_all_a_checkpoint_is_loaded_twice_however_many_seeds(suite: Suite, seeds, opened: list[str]):
    compute = Compute(resident_gb=0)
    evaluate_seeds(suite, seeds, HELD_OUT, sample=TextSample(2, LENGTH), compute=compute)
    assert opened == [*suite.revisions, *suite.revisions]


def test_means_and_deviations_are_over_seeds(per_seed: pd.DataFrame):
    averaged = over_seeds(per_seed).set_index("revision")
    assert averaged.seeds.tolist() == [3, 3, 3]
    for measure in MEASURES:
        for revision, row in averaged.iterrows():
            values = per_seed[per_seed.revision == revision][measure].tolist()
            assert row[measure] == pytest.approx(statistics.mean(values), nan_ok=True)
            expected = math.nan if math.isnan(values[0]) else statistics.stdev(values)
            assert row[f"{measure}_deviation"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    alone = over_seeds(per_seed[per_seed.seed == 1])
    assert alone.l0_deviation.isna().all()


def test_crosscoders_that_cannot_be_compared_are_refused(suite: Suite, crosscoder: CrossCoder):
    elsewhere = CrossCoder(replace(crosscoder.origin, site=Site(1)), 24)
    with pytest.raises(CrosscoderError, match=r"of step0, step10, step40 at resid\.0, another of .* at resid\.1"):
        evaluate_seeds(suite, [crosscoder, elsewhere], HELD_OUT)
    with pytest.raises(CrosscoderError, match="There is no crosscoder to evaluate"):
        evaluate_seeds(suite, [], HELD_OUT)
