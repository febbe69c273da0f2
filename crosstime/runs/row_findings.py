"""The findings of a run on rows of parameters in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from crosstime.evolution.life_cycles import NEVER, pattern_names

MAX_NAMED = 3
"""Upper bound of the rows that a sentence names for a feature."""
_WORDS = {
    "always": ("is there throughout", "are there throughout"),
    "emerging": ("emerges", "emerge"),
    "discontinued": ("is discontinued", "are discontinued"),
    "transient": ("is transient", "are transient"),
    "maintained": ("is maintained for a while", "are maintained for a while"),
    "never": ("is there at none", "are there at none"),
    "intermittent": ("is intermittent", "are intermittent"),
    "shared": ("is shared by all", "are shared by all"),
    "specific": ("is specific to one", "are specific to one"),
    "partly shared": ("is shared by some", "are shared by some"),
}
"""Life cycles, and patterns of models side by side, as verbs in the singular and in the plural."""


def row_summary(name: str, evaluation: pd.DataFrame, evolution: pd.DataFrame, *, ordered: bool = True) -> str:
    """How well the features describe the rows, and how many have which life cycle.

    Args:
        name: what the rows are, such as ``W_U``.
        evaluation: the table of `crosstime.evaluate_rows`.
        evolution: the table ``evolution`` of `crosstime.evolution.decoder_evolution.decoder_evolution`, of the features
            that fire.
        ordered: whether the checkpoints are points of one training, rather than models side by side.

    Examples:
        >>> evaluation = pd.DataFrame({"revision": ["step0", "main"], "rows": 90, "fve": [0.5, 0.75]})
        >>> evolution = pd.DataFrame({"feature": range(3), "life_cycle": ["emerging", "always", "always"]})
        >>> print(*row_summary("W_U", evaluation, evolution).split(". "), sep="\\n")
        3 features fire and explain 50 % to 75 % of the variance of 90 rows of W_U at 2 checkpoints
        2 are there throughout, 1 emerges.
    """
    lowest, highest = (f"{share:.0%}".replace("%", " %") for share in (evaluation.fve.min(), evaluation.fve.max()))
    share = lowest if lowest == highest else f"{lowest} to {highest}"
    noun = "checkpoints" if ordered else "models"
    n_rows = int(evaluation.rows.iloc[0])
    first = (
        f"{len(evolution):,} features fire and explain {share} of the variance of {n_rows:,} rows of {name} at "
        f"{len(evaluation)} {noun}."
    )

    # The life cycles that occur, in their order
    names = pattern_names(ordered=ordered)
    counts = evolution.life_cycle.astype(object).value_counts()
    clauses = [
        f"{counts[life_cycle]:,} {_WORDS[life_cycle][int(counts[life_cycle] > 1)]}"
        for life_cycle in names
        if life_cycle != names[NEVER] and counts.get(life_cycle, 0)
    ]
    return f"{first} {', '.join(clauses)}." if clauses else first


def onset_sentences(evolution: pd.DataFrame, steps: pd.DataFrame, revisions: Sequence[str]) -> list[str]:
    """When most features emerge, and between which checkpoints they turn most; nothing for models side by side.

    Args:
        evolution: as for `row_summary`.
        steps: the table ``rotation_steps``.
        revisions: the compared checkpoints.

    Examples:
        >>> evolution = pd.DataFrame({"feature": [0, 1], "onset": ["main", "main"]})
        >>> steps = pd.DataFrame({"revision": ["main"], "previous": ["step0"], "degrees": [31.26]})
        >>> onset_sentences(evolution, steps, ["step0", "main"])[1]
        'Directions turn most from step0 to main: 31 degrees on average, among the features that are there at both.'
    """
    sentences = []
    later = evolution[evolution.onset.notna() & (evolution.onset != revisions[0])]
    if not later.empty:
        counts = later.onset.value_counts(sort=False).reindex(list(revisions), fill_value=0)
        sentences.append(
            f"{len(later):,} features are first there after {revisions[0]}, most of them at {counts.idxmax()} "
            f"({counts.max():,})."
        )
    turning = steps[steps.degrees.notna()]
    if not turning.empty:
        most = turning.sort_values("degrees", ascending=False, kind="stable").iloc[0]
        sentences.append(
            f"Directions turn most from {most.previous} to {most.revision}: {most.degrees:.0f} degrees on average, "
            "among the features that are there at both."
        )
    return sentences


def row_sentences(facts: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """For each life cycle the feature that writes most, and the rows on which it fires most strongly.

    Args:
        facts: the features that the report shows, the one that writes most first.
        rows: the table of `crosstime.top_rows`.
    """
    column = "life_cycle_dec" if "life_cycle_dec" in facts else "sharing_dec"
    sentences = []
    for life_cycle, features in facts.groupby(column, sort=False):
        feature = int(features.feature.iloc[0])
        labels = rows.label[rows.feature == feature].iloc[:MAX_NAMED].tolist()
        listed = ", ".join(repr(label) for label in labels)
        words = f"are {life_cycle}" if column == "sharing_dec" else _WORDS[str(life_cycle)][1]
        sentences.append(f"Of the features that {words}, f{feature} writes most: strongest on {listed}.")
    return sentences
