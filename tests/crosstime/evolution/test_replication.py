"""Replication of features over seeds, against searches over all assignments in numpy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from decoder_crosscoder import decoder_crosscoder
from seeded_randn import randn

from crosstime.errors import CrosscoderError
from crosstime.evolution.replication import mean_matched_cosine, pairwise_mcc, replication, replication_shares


def best_of_all_assignments(first: torch.Tensor, second: torch.Tensor) -> float:
    """Try every assignment of the smaller dictionary, in float64."""
    a, b = (directions.flatten(1).double().numpy() for directions in (first, second))
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    if len(a) > len(b):
        cosines = cosines.T
    n_rows, n_columns = cosines.shape
    return max(cosines[range(n_rows), list(order)].mean() for order in permutations(range(n_columns), n_rows))


@pytest.mark.parametrize(("n_first", "n_second"), [(6, 6), (4, 7), (7, 3)])
def test_mcc_is_the_best_of_all_assignments(n_first: int, n_second: int):
    first, second = randn(n_first, 2, 3, seed=1), randn(n_second, 2, 3, seed=2)
    assert mean_matched_cosine(first, second) == pytest.approx(best_of_all_assignments(first, second), abs=1e-6)


def test_mcc_is_above_what_a_greedy_assignment_gives():
    """Greedily, .9 takes the partner of the feature that then has only 0 left."""
    first = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0]]).reshape(2, 1, 3)
    second = torch.tensor([[0.9, 0, 0.19**0.5], [0.85, -0.5268, 0]]).reshape(2, 1, 3)
    assert mean_matched_cosine(first, second) == pytest.approx(best_of_all_assignments(first, second), abs=1e-6)
    assert mean_matched_cosine(first, second) > (0.9 + 0.8 * 0.85 - 0.6 * 0.5268) / 2


def test_an_opposite_direction_is_no_replication():
    directions = torch.eye(4).reshape(4, 1, 4)[:1]
    assert mean_matched_cosine(directions, -directions) == -1
    assert replication(
        [decoder_crosscoder(directions, ("a",)), decoder_crosscoder(-directions, ("a",))]
    ).matches.tolist() == [0]


def test_the_assignment_is_by_cosines_with_their_sign():
    """By hand: of the cosines (-1, .7071) and (0, .7071), .7071 and 0 are assigned; absolute ones give .8536."""
    first = torch.tensor([[1.0, 0], [0, 1]]).reshape(2, 1, 2)
    second = torch.tensor([[-2.0, 0], [1, 1]]).reshape(2, 1, 2)
    assert mean_matched_cosine(first, second) == pytest.approx(0.5**0.5 / 2, abs=1e-6)


def test_pairwise_mcc_has_a_row_for_any_two():
    directions = [randn(5, 2, 4, seed=seed) for seed in range(3)]
    table = pairwise_mcc([decoder_crosscoder(decoder) for decoder in directions])
    assert list(zip(table["first"], table["second"], strict=True)) == [(0, 1), (0, 2), (1, 2)]
    expected = [best_of_all_assignments(directions[i], directions[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert table.mcc.tolist() == pytest.approx(expected, abs=1e-6)


def test_replication_counts_matches_and_their_labels():
    """Of four features, the second seed has all, reversed; the third has the first two, of which one lives shorter."""
    base = torch.eye(8)[:4].unsqueeze(1).repeat(1, 2, 1)
    base[0, 1] *= 0.5
    third = torch.cat([base[:2], torch.eye(8)[6:].unsqueeze(1).repeat(1, 2, 1)])
    third[0, 1] *= 0.5
    seeds = [decoder_crosscoder(base), decoder_crosscoder(2 * base.flip(0)), decoder_crosscoder(third)]
    table = replication(seeds)
    assert table.feature.tolist() == [0, 1, 2, 3]
    assert table.others.tolist() == [2] * 4
    assert table.matches.tolist() == [2, 2, 1, 1]
    assert table.same_label.tolist() == [1, 2, 1, 1]
    assert table.label.tolist() == ["always"] * 4
    cosine = (1 + 0.5 * 0.25) / ((1 + 0.5**2) * (1 + 0.25**2)) ** 0.5
    assert table.cosine.tolist() == pytest.approx([(1 + cosine) / 2, 1, 1, 1])
    shares = replication_shares(table)
    assert shares.values.tolist() == [[1, 1, 1], [2, 0.5, 0.25]]

    # Labels of one's own, and features without a match
    labels = [list("xxyy"), list("xxyy"), list("xxyy")]
    assert replication(seeds, labels).same_label.tolist() == [1, 1, 0, 0]
    alone = replication([seeds[0], decoder_crosscoder(torch.eye(8)[4:].unsqueeze(1).repeat(1, 2, 1))])
    assert alone.matches.tolist() == [0] * 4
    assert alone.cosine.isna().all()


def test_bad_input_is_one_sentence():
    directions = randn(4, 2, 6, seed=0)
    with pytest.raises(CrosscoderError, match="2 checkpoints and width 6 do not match those of 2 and 5"):
        mean_matched_cosine(directions, directions[..., :5])
    with pytest.raises(CrosscoderError, match="not finite"):
        mean_matched_cosine(directions, directions * torch.nan)
    for function in (pairwise_mcc, replication):
        with pytest.raises(CrosscoderError, match="at least two crosscoders, not 1"):
            function([decoder_crosscoder(directions)])
        with pytest.raises(CrosscoderError, match="have no features in common"):
            function([decoder_crosscoder(directions), decoder_crosscoder(directions, ("a", "c"))])
    with pytest.raises(CrosscoderError, match="every feature of every crosscoder"):
        replication([decoder_crosscoder(directions)] * 2, [["a"] * 4, ["a"] * 3])
    with pytest.raises(CrosscoderError, match="no features"):
        replication_shares(replication([decoder_crosscoder(directions)] * 2).head(0))
