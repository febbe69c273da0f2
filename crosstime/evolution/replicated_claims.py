"""Which claims about the selected features other seeds make as well."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.match_features import match_features
from crosstime.evolution.replication import refuse_unfit
from crosstime.report.columns import UNDECIDED
from crosstime.report.replicates import replicates

COLUMNS = ("task", "feature", "others", "matches", "cosine", "selected", "same_class", "same_life", "same_presence")
Key = TypeVar("Key", bound=Hashable)
MINIMUM = 0.7
"""Smallest cosine of the decoders of a feature and its match."""


def replicated_claims(
    crosscoders: Sequence[CrossCoder],
    effects: Sequence[pd.DataFrame],
    lives: Sequence[pd.DataFrame],
    presence: Sequence[pd.DataFrame] = (),
    *,
    minimum: float = MINIMUM,
) -> pd.DataFrame:
    """Count, for each selected feature of the first crosscoder, the others in which its match supports the same claims.

    Features are matched one to one by the cosine of their decoders, see `match_features`. A claim replicates in another
    crosscoder if the match makes it there: it is among the features with the largest effects on the task, has the same
    class by RelIE, the same life cycle by its effects, or the same life cycle by the test of presence.

    Args:
        crosscoders: at least two, of the same checkpoints and site, such as seeds of one training.
        effects: for each crosscoder, a table as `Attribution.table` gives it, of any number of tasks.
        lives: for each crosscoder, the table ``life_cycles`` of `crosstime.evolve`.
        presence: for each crosscoder, the table ``presence`` of `crosstime.evolve`; none where no text was read.
        minimum: smallest cosine of a match.

    Returns:
        One row for each task and selected feature: task, feature, others (number of other crosscoders), matches (in how
        many of them the feature has a match), cosine (mean over its matches, NaN without one), selected, same_class,
        same_life and same_presence (in how many of them the match is selected on the task, has the same class, the same
        life cycle by its effects, and by the test of presence, undecided being none; NaN without that test).

    Raises:
        CrosscoderError: fewer than two crosscoders, tables that are not one for each, or crosscoders of different
            checkpoints or sites.

    Examples:
        >>> table = replicated_claims(crosscoders, effects, lives)  # doctest: +SKIP
        >>> table[replicates(table)].feature.tolist()  # doctest: +SKIP
        [3, 17]
    """
    refuse_unfit(crosscoders)
    if not len(crosscoders) == len(effects) == len(lives):
        raise CrosscoderError("Replication needs a table of effects and one of life cycles for each crosscoder.")
    if presence and len(presence) != len(crosscoders):
        raise CrosscoderError("Replication needs a table of the test of presence for each crosscoder, or none.")

    # The matches of each feature, and what every crosscoder claims about it
    matches = []
    for other in crosscoders[1:]:
        pairs = match_features(crosscoders[0], other, minimum=minimum)
        matches.append(
            {
                feature: (partner, cosine)
                for feature, partner, cosine in zip(pairs.feature, pairs.other, pairs.cosine, strict=True)
            }
        )
    classes = [_labels(table, "class_ie") for table in effects]
    lives_by_effect = [_labels(table, "life_cycle") for table in lives]
    lives_by_test = [_decided(table) for table in presence]

    # Count, for each selected feature, the crosscoders that agree
    rows = []
    for task, feature in classes[0]:
        partners = {index: match[feature] for index, match in enumerate(matches, start=1) if feature in match}
        in_task = {index: (task, partner) for index, (partner, _) in partners.items()}
        everywhere = {index: partner for index, (partner, _) in partners.items()}
        cosines = [cosine for _, cosine in partners.values()]
        rows.append(
            {
                "task": task,
                "feature": feature,
                "others": len(matches),
                "matches": len(partners),
                "cosine": sum(cosines) / len(cosines) if cosines else float("nan"),
                "selected": sum(key in classes[index] for index, key in in_task.items()),
                "same_class": _agreement(classes, (task, feature), in_task),
                "same_life": _agreement(lives_by_effect, (task, feature), in_task),
                "same_presence": _agreement(lives_by_test, feature, everywhere) if lives_by_test else float("nan"),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def replication_sentences(table: pd.DataFrame, seeds: Sequence[int], mcc: float) -> list[str]:
    """The findings about seeds in words: PW-MCC, and for each task how many features and claims replicate.

    Args:
        table: what `replicated_claims` returns.
        seeds: the seeds, that of the run first.
        mcc: the mean of `pairwise_mcc`.

    Examples:
        >>> row = {"task": "mine", "feature": 3, "others": 1, "matches": 1, "selected": 1}
        >>> sentences = replication_sentences(pd.DataFrame([row | {"same_class": 1, "same_life": 0}]), [0, 1], 0.5)
        >>> sentences[0]
        'Crosscoders of seeds 0 and 1 have a PW-MCC of 0.50.'
        >>> sentences[1].partition("; ")[0]
        'On mine, 1 of 1 selected features is in more than half of the seeds'
    """
    named = ", ".join(map(str, seeds[:-1])) + f" and {seeds[-1]}"
    sentences = [f"Crosscoders of seeds {named} have a PW-MCC of {mcc:.2f}."]
    for task, rows in table.groupby("task", sort=False):
        shown = rows[replicates(rows)]
        claims = {
            "selected": ("is selected there", "are selected there"),
            "same_class": ("has the same class", "have the same class"),
            "same_life": ("has the same life cycle by its effects", "have the same life cycle by their effects"),
            "same_presence": ("by the test of presence", "by the test of presence"),
        }
        clauses = []
        for name, verbs in claims.items():
            # Tables of runs without text, and of earlier versions, have no test of presence
            if name in rows and rows[name].notna().all():
                count = int(replicates(shown, name).sum())
                clauses.append(f"{count} {verbs[count != 1]}")
        sentences.append(
            f"On {task}, {len(shown)} of {len(rows)} selected features {'is' if len(shown) == 1 else 'are'} in more "
            f"than half of the seeds; of these, {', '.join(clauses[:-1])} and {clauses[-1]} in more than half."
        )
    return sentences


def _agreement(labels: Sequence[Mapping[Key, str]], own: Key, partners: Mapping[int, Key]) -> int:
    """In how many crosscoders the partner of a feature has the label of the feature in the first; 0 without a label."""
    label = labels[0].get(own)
    return sum(label is not None and labels[index].get(key) == label for index, key in partners.items())


def _decided(presence: pd.DataFrame) -> dict[int, str]:
    """The life cycle of each feature by the test of presence, without undecided ones."""
    rows = presence.drop_duplicates("feature")
    rows = rows[rows.life_cycle != UNDECIDED]
    return dict(zip(rows.feature.astype(int).tolist(), rows.life_cycle.astype(str).tolist(), strict=True))


def _labels(table: pd.DataFrame, column: str) -> dict[tuple[str, int], str]:
    """A column of text by task and feature."""
    rows = table.drop_duplicates(["task", "feature"])
    return {
        (str(task), int(feature)): str(label)
        for task, feature, label in zip(rows.task, rows.feature, rows[column], strict=True)
    }
