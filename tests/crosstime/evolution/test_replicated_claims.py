"""Claims that other seeds make as well, counted by hand on crosscoders whose features are unit vectors."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.evolution.replicated_claims import COLUMNS, replicated_claims, replication_sentences
from crosstime.report.replicates import replicates
from interventions import Site


def crosscoder(order: list[int]) -> CrossCoder:
    """Features with the directions of the unit vectors in an order; -1 is a direction of no other crosscoder."""
    made = CrossCoder(Origin("mine", ("a", "b"), Site(0), 6), len(order))
    unit = torch.eye(6)
    rows = [unit[index] if index >= 0 else torch.full((6,), -1.0) for index in order]
    with torch.no_grad():
        made.W_dec.copy_(torch.stack(rows).unsqueeze(1).expand(-1, 2, -1))
    return made


def effects(*rows: tuple[str, int, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["task", "feature", "class_ie"])
    # A row for each checkpoint, as in the table of effects
    return pd.concat([table.assign(revision="a"), table.assign(revision="b")], ignore_index=True)


def lives(*rows: tuple[str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["task", "feature", "life_cycle"])


FIRST = crosscoder([0, 1, 2, 3])
SECOND = crosscoder([1, 0, -1, 3])  # feature 0 is 1 here, 1 is 0, 2 is nowhere, 3 is 3
THIRD = crosscoder([3, 2, 1, 0, 4])  # 0 is 3 here, 1 is 2, 2 is 1, 3 is 0
TABLES = [
    effects(("t", 0, "a only"), ("t", 1, "shared"), ("t", 2, "b only"), ("u", 0, "shared")),
    effects(("t", 1, "a only"), ("t", 0, "a only"), ("u", 2, "shared")),
    effects(("t", 3, "a only"), ("t", 2, "shared"), ("t", 1, "shared")),
]
LIVES = [
    lives(("t", 0, "emerging"), ("t", 1, "always"), ("t", 2, "always"), ("u", 0, "always")),
    lives(("t", 1, "emerging"), ("t", 0, "transient"), ("u", 1, "always")),
    lives(("t", 3, "always"), ("t", 2, "always"), ("t", 1, "always")),
]


def presence(*rows: tuple[int, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["feature", "life_cycle"])
    return pd.concat([table.assign(revision="a"), table.assign(revision="b")], ignore_index=True)


def test_lives_by_the_test_of_presence_are_counted_over_the_matches_whatever_the_task():
    """Feature 0 is 1 and 3 in the others, 1 is 0 and 2, 2 is nowhere and 1."""
    tests = [
        presence((0, "emerging"), (1, "undecided"), (2, "always")),
        presence((1, "emerging"), (0, "undecided"), (2, "always")),
        presence((3, "always"), (2, "undecided"), (1, "always")),
    ]
    table = replicated_claims([FIRST, SECOND, THIRD], TABLES, LIVES, tests)
    counts = table.set_index(["task", "feature"]).same_presence
    assert counts.to_dict() == {("t", 0): 1, ("t", 1): 0, ("t", 2): 1, ("u", 0): 1}
    sentences = replication_sentences(table, [0, 1, 2], 0.5)
    assert sentences[1].endswith("and 2 by the test of presence in more than half.")

    # Without text there is none, and no sentence about it
    without = replicated_claims([FIRST, SECOND, THIRD], TABLES, LIVES)
    assert without.same_presence.isna().all()
    for older in (without, without.drop(columns="same_presence")):
        assert "presence" not in " ".join(replication_sentences(older, [0, 1, 2], 0.5))
    with pytest.raises(CrosscoderError, match="test of presence for each crosscoder"):
        replicated_claims([FIRST, SECOND, THIRD], TABLES, LIVES, tests[:2])


def test_claims_are_counted_over_the_matches():
    table = replicated_claims([FIRST, SECOND, THIRD], TABLES, LIVES)
    assert tuple(table.columns) == COLUMNS
    counts = table.set_index(["task", "feature"])[["matches", "selected", "same_class", "same_life"]]
    assert counts.loc[("t", 0)].tolist() == [2, 2, 2, 1]
    assert counts.loc[("t", 1)].tolist() == [2, 2, 1, 1]
    assert counts.loc[("t", 2)].tolist() == [1, 1, 0, 1]
    # On the other task, the match is selected by neither
    assert counts.loc[("u", 0)].tolist() == [2, 0, 0, 1]
    assert table.others.eq(2).all()
    assert table.cosine.tolist() == pytest.approx([1.0] * 4)


def test_a_feature_without_a_match_replicates_no_claim():
    table = replicated_claims([FIRST, SECOND], TABLES[:2], LIVES[:2]).set_index(["task", "feature"])
    row = table.loc[("t", 2)]
    assert row[["matches", "selected", "same_class", "same_life"]].tolist() == [0, 0, 0, 0]
    assert math.isnan(row.cosine)
    assert replicates(table).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("others", "fewest"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_most_seeds_are_more_than_half_of_all(others: int, fewest: int):
    table = pd.DataFrame({"others": others, "matches": range(others + 1)})
    assert replicates(table).tolist() == [matches + 1 > (others + 1) / 2 for matches in range(others + 1)]
    assert replicates(table).tolist().index(True) == fewest


def test_sentences_count_what_most_seeds_have():
    table = replicated_claims([FIRST, SECOND, THIRD], TABLES, LIVES)
    assert replication_sentences(table, [7, 8, 9], 0.625) == [
        "Crosscoders of seeds 7, 8 and 9 have a PW-MCC of 0.62.",
        "On t, 3 of 3 selected features are in more than half of the seeds; of these, 3 are selected there, 2 have the "
        "same class and 3 have the same life cycle by their effects in more than half.",
        "On u, 1 of 1 selected features is in more than half of the seeds; of these, 0 are selected there, 0 have the "
        "same class and 1 has the same life cycle by its effects in more than half.",
    ]


def test_what_does_not_fit_is_refused():
    with pytest.raises(CrosscoderError, match="at least two crosscoders, not 1"):
        replicated_claims([FIRST], TABLES[:1], LIVES[:1])
    with pytest.raises(CrosscoderError, match="a table of effects and one of life cycles"):
        replicated_claims([FIRST, SECOND], TABLES[:1], LIVES[:2])
