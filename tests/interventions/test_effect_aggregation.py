"""Aggregation of sparse effects per feature and prompt, against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions import Effects, InterventionError

LENGTHS = [3, 1, 4]
ENTRY = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 5), st.floats(-0.5, 0.5, width=32))
ENTRIES = st.lists(ENTRY, max_size=25).map(
    lambda rows: [(prompt, position % LENGTHS[prompt], feature, value) for prompt, position, feature, value in rows]
)


def effects(entries: list[tuple[int, int, int, float]], *, positions: bool = True) -> Effects:
    def column(index: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([entry[index] for entry in entries], dtype=dtype)

    return Effects(
        prompt=column(0, torch.long),
        position=column(1, torch.long) if positions else None,
        feature=column(2, torch.long),
        value=column(3, torch.float32),
        error=torch.tensor([0.1, -0.2, 0.3]),
        clean=torch.tensor([1.0, 2.0, 3.0]),
        baseline=torch.tensor([1.5, 2.5, 1.0]),
        lengths=torch.tensor(LENGTHS),
        n_features=6,
        method="ig" if positions else "exact",
    )


@given(ENTRIES)
@settings(deadline=None)
def test_sum_adds_positions_and_averages_prompts(entries):
    expected = [sum(value for _, _, i, value in entries if i == feature) / 3 for feature in range(6)]
    assert effects(entries).per_feature().tolist() == pytest.approx(expected, abs=1e-9)
    assert effects(entries, positions=False).per_feature().tolist() == pytest.approx(expected, abs=1e-9)


@given(ENTRIES)
@settings(deadline=None)
def test_ctt_drops_small_effects_of_a_position_and_averages_all_tokens(entries):
    sums: dict[tuple[int, int, int], float] = {}
    for prompt, position, feature, value in entries:
        sums[prompt, position, feature] = sums.get((prompt, position, feature), 0.0) + value
    if any(abs(abs(value) - 0.1) < 1e-6 for value in sums.values()):
        return
    expected = [
        sum(value for (_, _, i), value in sums.items() if i == feature and abs(value) > 0.1) / sum(LENGTHS)
        for feature in range(6)
    ]
    assert effects(entries).per_feature("ctt").tolist() == pytest.approx(expected, abs=1e-9)


def test_ctt_thresholds_the_sum_of_both_entries_of_a_position():
    result = effects([(0, 1, 2, -0.35), (0, 1, 2, 0.3), (0, 2, 2, 0.06), (0, 2, 2, 0.06)])
    assert result.per_feature("ctt")[2].item() == pytest.approx(0.12 / 8)


@given(ENTRIES, st.lists(st.integers(0, 5), min_size=1, max_size=8))
@settings(deadline=None)
def test_per_prompt_has_a_column_for_each_given_feature(entries, features):
    by_prompt = effects(entries).per_prompt(features)
    assert by_prompt.shape == (3, len(features))
    for prompt in range(3):
        for column, feature in enumerate(features):
            expected = sum(value for p, _, i, value in entries if (p, i) == (prompt, feature))
            assert by_prompt[prompt, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("feature", [6, -1])
def test_a_feature_that_does_not_exist_has_no_column(feature):
    with pytest.raises(InterventionError, match=rf"Feature {feature} does not exist.*0 to 5"):
        effects([(0, 0, 1, 0.5)]).per_prompt([1, feature])


def test_completeness_error_is_the_missed_share_of_the_change():
    result = effects([(0, 0, 1, 0.3), (0, 1, 1, 0.2), (2, 0, 4, -2.0)])
    missed = abs(0.5 + 0.1 - 0.5) + abs(-0.2 - 0.5) + abs(-2.0 + 0.3 - -2.0)
    assert result.completeness_error() == pytest.approx(missed / (0.5 + 0.5 + 2.0), rel=1e-6)


def test_effects_without_positions_have_no_ctt_aggregation():
    with pytest.raises(InterventionError, match="'ctt' needs effects per position; use method 'ig' or 'atp'"):
        effects([(0, 0, 1, 0.3)], positions=False).per_feature("ctt")


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(InterventionError, match="no aggregation named 'mean': Allowed: ctt, ctt-released, sum"):
        effects([(0, 0, 1, 0.3)]).per_feature("mean")
