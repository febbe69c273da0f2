from __future__ import annotations

import pytest
import torch
from decoder_crosscoder import decoder_crosscoder

from crosstime.errors import CrosscoderError
from crosstime.evolution import match_features as match_features_module
from crosstime.evolution.match_features import match_directions, match_features
from crosstime.evolution.seed_agreement import seed_agreement


def greedy_by_hand(first: torch.Tensor, second: torch.Tensor, minimum: float) -> list[tuple[int, int]]:
    """Take the largest of all cosines, strike out its row and column, and again."""
    flat = [directions.flatten(1).double() for directions in (first, second)]
    cosine = torch.nn.functional.cosine_similarity(flat[0].unsqueeze(1), flat[1].unsqueeze(0), dim=-1)
    pairs = []
    while cosine.numel() and cosine.max() >= minimum:
        i, j = divmod(int(cosine.argmax()), cosine.shape[1])
        pairs.append((i, j))
        cosine[i], cosine[:, j] = -2, -2
    return pairs


@pytest.mark.parametrize("chunk", [7, 1 << 24])
def test_matches_are_those_of_a_greedy_search_over_all_pairs(monkeypatch, chunk: int):
    monkeypatch.setattr(match_features_module, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(30, 2, 4, generator=generator)
    second = torch.cat(
        [first[:20] + 0.7 * torch.randn(20, 2, 4, generator=generator), torch.randn(15, 2, 4, generator=generator)]
    )
    matches = match_directions(first, second, minimum=0.5, candidates=35)
    assert list(zip(matches.feature, matches.other, strict=True)) == greedy_by_hand(first, second, 0.5)
    assert matches.cosine.is_monotonic_decreasing
    assert matches.feature.is_unique
    assert matches.other.is_unique


def test_a_permuted_dictionary_is_matched_back():
    directions = torch.randn(50, 3, 8, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    matches = match_directions(directions, directions[order] * 3).sort_values("feature")
    assert order[torch.tensor(matches.other.to_numpy())].tolist() == list(range(50))
    assert matches.mutual.all()


def test_a_feature_of_another_checkpoint_is_no_match():
    direction = torch.nn.functional.normalize(torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    early, late = torch.cat([direction, 0 * direction], 1), torch.cat([0 * direction, direction], 1)
    assert match_directions(early, late).empty
    assert match_directions(early, torch.cat([direction, direction], 1), minimum=0.8).empty


def test_mutual_is_false_where_a_better_partner_was_taken():
    base = torch.eye(3).reshape(3, 1, 3)
    first = torch.stack([base[0], base[0] + 0.1 * base[1]])
    second = torch.stack([base[0], base[0] + base[1]])
    matches = match_directions(first, second, minimum=0.1).set_index("feature")
    assert matches.other.to_dict() == {0: 0, 1: 1}
    assert matches.mutual.to_dict() == {0: True, 1: False}


def test_seeds_that_agree_have_kappa_one_and_labels_can_be_given():
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(40, 2, 16, generator=generator)
    directions[:10, 0] *= 0.01
    directions[10:20, 1] *= 0.01
    first, second = (
        decoder_crosscoder(directions),
        decoder_crosscoder(directions.flip(0) + 0.01 * torch.randn(40, 2, 16, generator=generator)),
    )
    row = seed_agreement([first, second]).iloc[0]
    assert (row.matched, row.share, row.agreement, row.kappa) == (40, 1.0, 1.0, 1.0)
    labels = [["x"] * 20 + ["y"] * 20, ["x"] * 20 + ["y"] * 20]
    assert seed_agreement([first, second], labels).iloc[0].kappa == -1


def test_bad_input_is_one_sentence():
    directions = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(CrosscoderError, match="2 checkpoints and width 6 do not match those of 2 and 5"):
        match_directions(directions, directions[..., :5])
    with pytest.raises(CrosscoderError, match="at least one candidate"):
        match_directions(directions, directions, candidates=0)
    with pytest.raises(CrosscoderError, match="have no features in common"):
        match_features(decoder_crosscoder(directions), decoder_crosscoder(directions, ("a", "c")))
    with pytest.raises(CrosscoderError, match="at least two crosscoders, not 1"):
        seed_agreement([decoder_crosscoder(directions)])
    with pytest.raises(CrosscoderError, match="every feature of every crosscoder"):
        seed_agreement([decoder_crosscoder(directions)] * 2, [["a"] * 4, ["a"] * 3])
