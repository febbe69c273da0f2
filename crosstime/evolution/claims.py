"""The claims that a run makes about its features, counted: classes, life cycles, and explained dips."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from crosstime.effects.relie import classify, relative
from crosstime.evolution.life_cycles import life_cycle_shares, pattern_names
from crosstime.evolution.presence_lives import presence_shares
from crosstime.report.columns import PRESENCE_TEST, UNDECIDED

DECODER, RELDEC, DIPS = "decoder norm", "RelDec", "dips"
EXPLAINED = "explained"
COLUMNS = ("source", "claim", "count", "n")

_NOT_CLASSES = ("undefined", "spread")
"""Names that stand for the absence of a class."""


def class_counts(shares: Float[Tensor, "K C"], revisions: Sequence[str], source: str) -> pd.DataFrame:
    """How many features have each class by RelIE or RelDec: source, claim, count, n.

    Args:
        shares: RelIE or RelDec of K features, see `crosstime.effects.relie.relative`.
        revisions: names of the C checkpoints.
        source: name of what the classes are made of.

    Examples:
        >>> import torch
        >>> class_counts(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), ["step0", "main"], "RelDec").values.tolist()
        [['RelDec', 'step0 only', 1, 2], ['RelDec', 'shared', 1, 2]]
    """
    return label_counts(pd.Series(classify(shares, revisions), dtype=object), source)


def label_counts(labels: pd.Series, source: str) -> pd.DataFrame:
    """How many features have each label, in the order in which labels come first: source, claim, count, n."""
    counts = labels[~labels.isin(_NOT_CLASSES)].value_counts(sort=False)
    table = {"source": source, "claim": counts.index, "count": counts.to_numpy(), "n": len(labels)}
    return pd.DataFrame(table, columns=list(COLUMNS))


def decoder_claims(norms: Float[Tensor, "K C"], revisions: Sequence[str], *, ordered: bool = True) -> pd.DataFrame:
    """Classes by RelDec and life cycles by decoder norm of K features, counted.

    Args:
        norms: decoder norms of the features that count, such as those that fire on some text.
        revisions: names of the C checkpoints.
        ordered: whether they are points of one training.

    Examples:
        >>> import torch
        >>> table = decoder_claims(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), ["step0", "main"])
        >>> table[table["count"] > 0].claim.tolist()
        ['step0 only', 'shared', 'always', 'discontinued']
    """
    lives = life_cycle_shares(norms, ordered=ordered)
    lives = lives.assign(source=DECODER, claim=lambda table: table.life_cycle, n=len(norms))
    return pd.concat([class_counts(relative(norms), revisions, RELDEC), lives[list(COLUMNS)]], ignore_index=True)


def effect_claims(effects: pd.DataFrame, lives: pd.DataFrame, *, ordered: bool = True) -> pd.DataFrame:
    """Classes by RelIE and life cycles by effect of the selected features of every task, counted.

    Args:
        effects: a table as `Attribution.table` gives it, of any number of tasks.
        lives: the table ``life_cycles`` of `crosstime.evolve`, of which the strongest features of each task count.
        ordered: whether the checkpoints are points of one training.

    Returns:
        source (``RelIE: TASK``, ``IE: TASK``), claim, count, n.
    """
    tables = []
    for task, rows in effects.drop_duplicates(["task", "feature"]).groupby("task", sort=False):
        tables.append(label_counts(rows.class_ie.astype(object), f"RelIE: {task}"))
    for task, rows in lives[lives.strongest].groupby("task", sort=False):
        counts = rows.life_cycle.value_counts().reindex(list(pattern_names(ordered=ordered)), fill_value=0)
        table = {"source": f"IE: {task}", "claim": counts.index, "count": counts.to_numpy(), "n": len(rows)}
        tables.append(pd.DataFrame(table, columns=list(COLUMNS)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def presence_claims(presence: pd.DataFrame, *, ordered: bool = True) -> pd.DataFrame:
    """Life cycles of the selected features by the test of presence, counted; undecided features have none.

    Args:
        presence: the table ``presence`` of `crosstime.evolve`.
        ordered: whether the checkpoints are points of one training.

    Returns:
        source (the test of presence), claim, count, n (the number of selected features, undecided ones included).

    Examples:
        >>> lives = pd.DataFrame({"feature": [3, 5, 8], "life_cycle": ["always", "emerging", "undecided"]})
        >>> table = presence_claims(lives)
        >>> table[table["count"] > 0].values.tolist()
        [['test of presence', 'always', 1, 3], ['test of presence', 'emerging', 1, 3]]
    """
    lives = presence_shares(presence, ordered=ordered)
    lives = lives[lives.life_cycle != UNDECIDED].rename(columns={"life_cycle": "claim"})
    return lives.assign(source=PRESENCE_TEST, n=presence.feature.nunique())[list(COLUMNS)].reset_index(drop=True)


def dip_claims(explained: Sequence[bool]) -> pd.DataFrame:
    """How many of the dips that were tested are explained: source, claim, count, n; no row without a dip.

    Examples:
        >>> dip_claims([True, False]).values.tolist()
        [['dips', 'explained', 1, 2]]
    """
    rows = [(DIPS, EXPLAINED, sum(explained), len(explained))] if explained else []
    return pd.DataFrame(rows, columns=list(COLUMNS))
