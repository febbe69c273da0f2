"""The estimators of Crosscoding Through Time: as its paper describes them, and as its released code computes them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_effect_aggregation import LENGTHS, effects

from interventions import Aggregation, Estimator, InterventionError

ENTRY = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 5), st.floats(-0.5, 0.5, width=32))
ENTRIES = st.lists(ENTRY, max_size=25, unique_by=lambda row: (row[0], row[1] % LENGTHS[row[0]], row[2])).map(
    lambda rows: [(prompt, position % LENGTHS[prompt], feature, value) for prompt, position, feature, value in rows]
)


def as_released(entries, lengths: list[int], batch_size: int, columns: int, threshold: float = 0.1) -> list[float]:
    """Batch by batch: a padded tensor of effects, thresholded, its mean over rows and positions, times the columns."""
    total = torch.zeros(6, dtype=torch.float64)
    for first in range(0, len(lengths), batch_size):
        rows = range(first, min(first + batch_size, len(lengths)))
        longest = max(lengths[row] for row in rows)
        padded = torch.zeros(len(rows), longest, 6, dtype=torch.float64)
        for prompt, position, feature, value in entries:
            if prompt in rows:
                padded[prompt - first, longest - lengths[prompt] + position, feature] = value
        total += (padded * (padded.abs() > threshold)).flatten(0, 1).mean(0) * columns
    return (total / len(lengths)).tolist()


@pytest.mark.parametrize(("batch_size", "columns"), [(4, 18), (2, 6), (1, 1), (3, 7)])
@given(entries=ENTRIES)
@settings(deadline=None, max_examples=25)
def test_the_released_aggregation_is_that_of_its_batches(entries, batch_size: int, columns: int):
    aggregation = Aggregation("ctt-released", batch_size=batch_size, columns=columns)
    result = effects(entries)
    expected = as_released(entries, LENGTHS, batch_size, columns)
    assert result.per_feature(aggregation).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    by_prompt = result.per_prompt([3, 0], aggregation).mean(0)
    assert by_prompt.tolist() == pytest.approx([expected[3], expected[0]], rel=1e-6, abs=1e-9)


def test_two_prompts_by_hand():
    # Batch 1: prompts of 3 and 1 tokens, padded to 2 x 3; batch 2: a prompt of 4 tokens. .05 is below the threshold.
    result = effects([(0, 0, 2, 0.6), (0, 1, 2, 0.05), (1, 0, 2, -0.3), (2, 3, 2, 0.8)])
    released = result.per_feature(Aggregation("ctt-released", batch_size=2, columns=18))[2].item()
    assert released == pytest.approx((0.3 / 6 + 0.8 / 4) * 18 / 3)
    assert result.per_feature("ctt")[2].item() == pytest.approx(1.1 / 8)
    assert result.per_feature(Aggregation("ctt", threshold=0.0))[2].item() == pytest.approx(1.15 / 8)
    assert result.per_prompt([2], "ctt").mean().item() == pytest.approx(1.1 / 8)


def test_effects_are_aggregated_as_their_estimator_says():
    from dataclasses import replace

    entries = [(0, 0, 2, 0.6), (0, 1, 2, 0.05), (1, 0, 2, -0.3), (2, 3, 2, 0.8)]
    for aggregation in (Aggregation(), Aggregation("ctt"), Aggregation("ctt-released", batch_size=2)):
        result = replace(effects(entries), aggregation=aggregation)
        torch.testing.assert_close(result.per_feature(), effects(entries).per_feature(aggregation))
        torch.testing.assert_close(result.per_prompt([2]).mean(0), result.per_feature()[[2]])


def test_named_estimators_are_what_they_say():
    as_written, released = (
        Estimator.named("ctt-as-written"),
        Estimator.named("ctt-as-released", batch_size=8, columns=6),
    )
    assert (as_written.method, as_written.quadrature, as_written.steps, as_written.baseline) == (
        "ig",
        "left",
        10,
        "zero",
    )
    assert as_written.aggregation == Aggregation("ctt", threshold=0.1)
    assert released == Estimator("atp", aggregation=Aggregation("ctt-released", 0.1, 8, 6))
    assert Estimator.named("default") == Estimator()
    assert [estimator.name for estimator in (as_written, released, Estimator())] == [
        "ctt-as-written",
        "ctt-as-released",
        None,
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Estimator.named("ctt"), "no estimator 'ctt': .*ctt-as-released, ctt-as-written, default"),
        (lambda: Aggregation("mean"), "no aggregation named 'mean': Allowed: ctt, ctt-released, sum"),
        (lambda: Aggregation("ctt", threshold=-1.0), "threshold must not be negative; got -1.0"),
        (lambda: Aggregation("ctt", threshold=float("nan")), "threshold must not be negative; got nan"),
        (lambda: Aggregation("ctt-released", batch_size=0), "batch_size of an aggregation must be at least 1, not 0"),
        (lambda: Aggregation("ctt-released", columns=0), "columns of an aggregation must be at least 1"),
        (lambda: Estimator("exact", aggregation=Aggregation("ctt")), "'ctt' needs effects per position"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(InterventionError, match=message):
        make()
