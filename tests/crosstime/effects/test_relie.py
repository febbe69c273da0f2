from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosstime.effects.relie import classify, relative, relative_pairwise
from crosstime.effects.select_top import select_top
from crosstime.errors import CrosstimeError

NAN = float("nan")


@st.composite
def tables(draw: st.DrawFn) -> torch.Tensor:
    """K features at C checkpoints, with zeros among the effects."""
    n_checkpoints = draw(st.sampled_from([2, 3, 5]))
    number = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))
    row = st.lists(number, min_size=n_checkpoints, max_size=n_checkpoints)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=6)), dtype=torch.float64)


def by_hand(row: list[float]) -> list[float]:
    total = sum(abs(value) for value in row)
    return [abs(value) / total if total else NAN for value in row]


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([3.0, 1.0], [0.75, 0.25]),
        ([-3.0, 1.0], [0.75, 0.25]),
        ([0.0, -2.0], [0.0, 1.0]),
        ([1.0, -1.0, 2.0], [0.25, 0.25, 0.5]),
        ([1.0, 2.0, 3.0, 4.0, -10.0], [0.05, 0.1, 0.15, 0.2, 0.5]),
    ],
)
def test_shares_are_the_magnitudes_over_their_sum(values: list[float], shares: list[float]):
    assert relative(torch.tensor(values)).tolist() == pytest.approx(shares)


@given(tables())
def test_shares_are_those_of_a_loop(table: torch.Tensor):
    for shares, row in zip(relative(table).tolist(), table.tolist(), strict=True):
        assert shares == pytest.approx(by_hand(row), nan_ok=True)


@given(tables())
def test_shares_sum_to_one_where_they_are_defined(table: torch.Tensor):
    total = relative(table).sum(-1)
    defined = (table != 0).any(-1)
    torch.testing.assert_close(total[defined], torch.ones_like(total[defined]))
    assert total[~defined].isnan().all()


@given(tables(), st.randoms(use_true_random=False))
def test_shares_follow_a_permutation_of_the_checkpoints(table: torch.Tensor, random):
    order = list(range(table.shape[1]))
    random.shuffle(order)
    torch.testing.assert_close(relative(table[:, order]), relative(table)[:, order], equal_nan=True)


@given(tables(), st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_unit_or_sign(table: torch.Tensor, unit: float):
    torch.testing.assert_close(relative(-unit * table), relative(table), equal_nan=True)


@pytest.mark.parametrize("n_checkpoints", [2, 3, 5])
def test_relie_is_nan_where_all_effects_are_zero(n_checkpoints: int):
    assert relative(torch.zeros(1, n_checkpoints)).isnan().all()


def test_zero_by_zero_is_what_the_caller_asks_for():
    values = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    assert relative(values, undefined=0.5).tolist() == [[0.5, 0.5], [0.25, 0.75]]


def test_the_pairwise_share_is_the_later_checkpoints():
    earlier, later = torch.tensor([1.0, -2.0, 0.0, 0.0]), torch.tensor([3.0, 2.0, -5.0, 0.0])
    shares = relative_pairwise(earlier, later).tolist()
    assert shares[:3] == [0.75, 0.5, 1.0]
    assert math.isnan(shares[3])
    assert relative_pairwise(earlier, later, undefined=0.5)[3].item() == 0.5


@given(tables())
def test_pairwise_shares_of_both_orders_sum_to_one(table: torch.Tensor):
    earlier, later = table[:, 0], table[:, 1]
    total = relative_pairwise(earlier, later, undefined=0.5) + relative_pairwise(later, earlier, undefined=0.5)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_the_pairwise_share_of_two_checkpoints_is_the_one_against_all():
    table = torch.tensor([[1.0, 4.0], [-3.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(relative_pairwise(table[:, 0], table[:, 1]), relative(table)[:, 1], equal_nan=True)


@pytest.mark.parametrize(
    ("share", "label"),
    [
        (0.0, "late only"),
        (0.29, "late only"),
        (0.31, "shared"),
        (0.5, "shared"),
        (0.69, "shared"),
        (0.71, "early only"),
        (1.0, "early only"),
        (NAN, "undefined"),
    ],
)
def test_two_checkpoints_are_specific_above_seven_tenths_and_shared_between(share: float, label: str):
    assert classify(torch.tensor([[share, 1 - share]]), ["early", "late"]) == [label]


@pytest.mark.parametrize(
    ("shares", "label"),
    [
        ([1.0, 0.0, 0.0], "a only"),
        ([0.5, 0.4, 0.1], "a+b"),
        ([0.35, 0.15, 0.5], "a+c"),
        ([0.25, 0.5, 0.25], "b only"),
        ([1 / 3, 1 / 3, 1 / 3], "shared"),
        ([NAN, NAN, NAN], "undefined"),
    ],
)
def test_of_three_checkpoints_those_count_that_have_three_tenths(shares: list[float], label: str):
    assert classify(torch.tensor([shares]), ["a", "b", "c"]) == [label]


def test_of_five_checkpoints_a_feature_may_be_spread_over_all():
    shares = torch.tensor([[0.2] * 5, [0.4, 0.3, 0.1, 0.1, 0.1], [0.05, 0.05, 0.05, 0.05, 0.8]])
    assert classify(shares, list("abcde")) == ["spread", "a+b", "e only"]


def test_other_thresholds_can_be_given():
    shares = torch.tensor([[0.6, 0.4]])
    assert classify(shares, ["a", "b"], specific=0.55) == ["a only"]
    three = torch.tensor([[0.6, 0.25, 0.15]])
    assert classify(three, ["a", "b", "c"], absent=0.2) == ["a+b"]


def test_classes_need_a_revision_for_every_share():
    with pytest.raises(CrosstimeError, match="3 revisions do not fit shares of 2"):
        classify(torch.zeros(1, 2), ["a", "b", "c"])


EFFECTS = torch.tensor(
    [
        [0.0, 5.0, -4.0, 0.1, 0.0],
        [-9.0, 0.2, 0.3, 0.0, 0.0],
    ]
)


@pytest.mark.parametrize(
    ("k", "by", "expected"),
    [
        (1, "magnitude", [0, 1]),
        (2, "magnitude", [0, 1, 2]),
        (1, "positive", [1, 2]),
        (1, "negative", [0, 2]),
        (1, "both", [0, 1, 2]),
        (10, "magnitude", [0, 1, 2, 3]),
        (10, "negative", [0, 2]),
    ],
)
def test_selection_is_the_union_over_checkpoints_strongest_first(k: int, by: str, expected: list[int]):
    assert select_top(EFFECTS, k, by=by) == expected


@given(tables(), st.integers(1, 4))
def test_selection_is_that_of_a_sort_at_each_checkpoint(table: torch.Tensor, k: int):
    effects = table.T + torch.arange(table.numel()).reshape(table.T.shape) * 1e-6 * (table.T != 0)
    expected = set()
    for row in effects.tolist():
        strongest = sorted(range(len(row)), key=lambda feature: -abs(row[feature]))[:k]
        expected |= {feature for feature in strongest if row[feature] != 0}
    selected = select_top(effects, k)
    assert set(selected) == expected
    peaks = effects.abs().amax(0)[selected]
    assert (peaks.diff() <= 0).all()


def test_features_without_effect_are_never_selected():
    assert select_top(torch.zeros(3, 4), k=2) == []


def test_an_unknown_selection_and_a_k_below_one_are_refused():
    with pytest.raises(CrosstimeError, match="magnitude, positive, negative, both, not 'size'"):
        select_top(EFFECTS, by="size")
    with pytest.raises(CrosstimeError, match="k must be at least 1, not 0"):
        select_top(EFFECTS, k=0)
