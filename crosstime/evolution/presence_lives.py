"""Life cycles by the test of presence: the answer of a run to "is it there?" where text is at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedText
from crosstime.evolution.life_cycles import life_cycle_table, pattern_names
from crosstime.evolution.presence_test import PRESENT_THERE, presence_test
from crosstime.report.columns import UNDECIDED


def presence_lives(crosscoder: CrossCoder, text: DecomposedText, features: Sequence[int]) -> pd.DataFrame:
    """The test of presence on text, with the life cycle of each feature: undecided if any checkpoint is.

    Args:
        crosscoder: the features.
        text: held-out text, decomposed at the crosscoder's checkpoints.
        features: the features to test.

    Returns:
        The columns of `presence_test`, and life_cycle and label as in `life_cycles`.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP
        >>> presence_lives(crosscoder, text, [3, 5]).drop_duplicates("feature").label  # doctest: +SKIP
    """
    sequence_of_token = text.text.sequence_of_token[text.token_mask]
    table = presence_test(crosscoder, text.decompositions, features=features, sequence_of_token=sequence_of_token)
    return with_lives(table, crosscoder.origin.revisions, ordered=crosscoder.origin.ordered)


def with_lives(table: pd.DataFrame, revisions: Sequence[str], *, ordered: bool = True) -> pd.DataFrame:
    """Add the life cycle of each feature to a test of presence: undecided if any checkpoint is.

    Args:
        table: as `presence_test` returns it.
        revisions: names of the checkpoints of the test.
        ordered: whether the checkpoints are points of one training.

    Returns:
        The table, and life_cycle and label as in `life_cycles`.

    Examples:
        >>> table = pd.DataFrame({"feature": [3, 3], "revision": ["early", "late"], "presence": ["present", "absent"]})
        >>> with_lives(table, ["early", "late"]).label.tolist()
        ['discontinued after early', 'discontinued after early']
    """
    features = table.feature.to_numpy()[:: len(revisions)].tolist()
    answers = table.presence.to_numpy().reshape(len(features), len(revisions))
    there = torch.tensor(answers == PRESENT_THERE)
    lives = life_cycle_table(there, revisions, features, ordered=ordered)[["life_cycle", "label"]].astype(object)
    lives[(answers == UNDECIDED).any(1)] = UNDECIDED
    rows = np.arange(len(features)).repeat(len(revisions))
    return pd.concat([table, lives.iloc[rows].reset_index(drop=True)], axis=1)


def presence_shares(lives: pd.DataFrame, *, ordered: bool = True) -> pd.DataFrame:
    """Share of features with each life cycle by the test of presence, and of those that are undecided.

    Args:
        lives: the table of `presence_lives`.
        ordered: whether the checkpoints are points of one training.

    Returns:
        One row for each life cycle, and one for undecided features: life_cycle, count, share, low, high (NaN: the test
        has one answer for the whole text).

    Examples:
        >>> table = presence_shares(pd.DataFrame({"feature": [3, 5], "life_cycle": ["always", "undecided"]}))
        >>> table[table["count"] > 0].values.tolist()
        [['always', 1, 0.5, nan, nan], ['undecided', 1, 0.5, nan, nan]]
    """
    of_features = lives.drop_duplicates("feature").life_cycle
    names = [*pattern_names(ordered=ordered), UNDECIDED]
    count = of_features.value_counts().reindex(names, fill_value=0).to_numpy()
    share = count / max(1, len(of_features))
    return pd.DataFrame({"life_cycle": names, "count": count, "share": share, "low": np.nan, "high": np.nan})


def last_present_by_test(lives: pd.DataFrame) -> dict[int, str]:
    """The last checkpoint of each feature that ends: it is there, absent from then on, and nowhere undecided.

    Args:
        lives: the table of `presence_lives`, of checkpoints in order.

    Examples:
        >>> lives = pd.DataFrame({"feature": [3, 3], "revision": ["early", "late"], "presence": ["present", "absent"]})
        >>> last_present_by_test(lives.assign(life_cycle="discontinued"))
        {3: 'early'}
    """
    last: dict[int, str] = {}
    for feature, rows in lives[lives.life_cycle != UNDECIDED].groupby("feature", sort=False):
        there = rows.revision[rows.presence == PRESENT_THERE].tolist()
        if there and there[-1] != rows.revision.iloc[-1]:
            last[int(str(feature))] = str(there[-1])
    return last
