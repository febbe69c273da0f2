"""Tables of the descriptions: each feature with its complexity, onset and scores, and the means of each dictionary."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from crosstime.evolution.onsets import onset_correlation
from crosstime.features.description_requests import parse_descriptions
from crosstime.features.description_scores import KINDS, read_key, score_replies
from crosstime.machine.storage import read_table
from crosstime.runs.descriptions.sources import Source
from interventions import Bootstrap, bootstrap_interval

MEASURES = ("score", "precision", "recall", "f1")
"""Columns of `score_replies` that the table of features has, for each kind of score."""
SCORES = [kind if measure == "score" else f"{kind}_{measure}" for kind in KINDS for measure in MEASURES]
FEATURE_COLUMNS = [
    "source", "feature", "drawn", "selected", "description", "complexity", "onset", "peak", *SCORES, "note",
]  # fmt: skip
"""Columns of ``complexity.csv``."""
MEANS = ("complexity", "detection", "fuzzing", "detection_f1", "fuzzing_f1")
"""Columns whose means ``sources.csv`` has."""


def feature_table(source: Source) -> pd.DataFrame:
    """One row for each feature of a source that was asked about; scores are NaN where there are none.

    Args:
        source: a source whose descriptions are complete.

    Returns:
        A table with the columns `FEATURE_COLUMNS`: the scores ``detection`` and ``fuzzing`` are shares of right answers
        in both halves, with their precision, recall and F1.
    """
    folder = source.folder
    table = read_table(folder / source.FEATURES, dtypes={"onset": "str", "peak": "str"})
    if source.first_files.replies_path.exists():
        notes = parse_descriptions(source.first_files.replies, table.feature.tolist())
        table = table.merge(notes[["feature", "description", "complexity", "note"]], on="feature", how="left")
    # Scores of which some are not there yet are not those of the features
    if source.second_files.replies and not source.second_files.unanswered:
        scores = score_replies(source.second_files.replies, read_key(folder / source.KEY))
        for kind in KINDS:
            of_kind = scores[scores.kind == kind][["feature", *MEASURES]]
            names = {measure: kind if measure == "score" else f"{kind}_{measure}" for measure in MEASURES}
            table = table.merge(of_kind.rename(columns=names), on="feature", how="left")
    return table.assign(source=source.name).reindex(columns=FEATURE_COLUMNS)


def source_table(features: pd.DataFrame, revisions: Sequence[str], *, bootstrap: Bootstrap) -> pd.DataFrame:
    """One row for each source: means over the features drawn at random, and complexity against onset and peak.

    ::

        r = Pearson's correlation of a feature's complexity with the place (0, 1, 2, ...) of its onset in the order
            of the compared checkpoints; p by Student's t; the interval by resampling features

    Args:
        features: the table ``complexity``.
        revisions: the compared checkpoints in order.
        bootstrap: of the intervals over features.

    Returns:
        source, asked (features drawn), described; for each of `MEANS` its mean, low and high; onset_n, onset_r,
        onset_low, onset_high, onset_p, and the same for peak.

    Source: EoC (arXiv 2509.17196), on complexity and emergence.
    """
    rows = []
    for name, table in features.groupby("source", sort=False):
        drawn = table[table.drawn]
        described = drawn.description.fillna("").str.strip() != ""
        row: dict[str, object] = {"source": name, "asked": len(drawn), "described": int(described.sum())}
        for column in MEANS:
            row |= _mean(column, drawn[column], bootstrap)
        for column in ("onset", "peak"):
            places = drawn[["feature"]].assign(onset=drawn[column])
            fit = onset_correlation(places, drawn[["feature", "complexity"]], revisions, bootstrap=bootstrap)
            row |= {f"{column}_{field}": getattr(fit, field) for field in ("n", "r", "low", "high", "p")}
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(name: str, values: pd.Series, bootstrap: Bootstrap) -> dict[str, float]:
    """The mean of the known values, with its interval."""
    numbers = torch.tensor(values.dropna().to_numpy(float))
    if not len(numbers):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), float("nan"))
    low, high = bootstrap_interval(numbers, bootstrap)
    return {name: float(numbers.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
