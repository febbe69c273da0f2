"""Which features come first in training: onsets by kind, and their correlation with a score that people gave."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from crosstime.errors import CrosstimeError
from crosstime.evolution.pearson import Correlation, pearson
from interventions import Bootstrap, bootstrap_interval


def onset_correlation(
    onsets: pd.DataFrame,
    scores: pd.DataFrame,
    revisions: Sequence[str],
    *,
    score: str = "complexity",
    positions: Sequence[float | int] | None = None,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> Correlation:
    """Correlate the onsets of features with a score that people gave them, such as complexity, by Pearson's r.

    Args:
        onsets: a table with the columns feature and onset, such as ``evolve(...)["evolution"]``.
        scores: a table with the columns feature and `score`, as `read_annotations` returns it.
        revisions: names of the checkpoints in order of training.
        score: name of the column.
        positions: number that stands for each checkpoint, such as the logarithm of its tokens; by default 0, 1, 2, ...
        bootstrap: of the interval over features.

    Raises:
        CrosstimeError: a column is missing, or an onset is none of the revisions.

    Examples:
        >>> evolution = pd.DataFrame({"feature": [0, 1, 2], "onset": ["a", "b", "c"]})
        >>> notes = pd.DataFrame({"feature": [0, 1, 2], "complexity": [1, 3, 5]})
        >>> round(onset_correlation(evolution, notes, ["a", "b", "c"]).r, 6)
        1.0

    Source: EoC (arXiv 2509.17196), on complexity and emergence.
    """
    for table, column in ((onsets, "onset"), (scores, score)):
        if column not in table or "feature" not in table:
            raise CrosstimeError(f"Onsets are compared by the columns feature and {column}, which a table lacks.")
    position_of = _positions(revisions, positions)
    _check_onsets(onsets.onset, position_of)
    merged = onsets[["feature", "onset"]].merge(scores[["feature", score]], on="feature")
    onset_positions = merged.onset.astype(object).map(position_of).astype(float)
    return pearson(onset_positions.to_numpy(), merged[score].to_numpy(float), bootstrap=bootstrap)


def onset_by_kind(
    onsets: pd.DataFrame,
    kinds: pd.DataFrame,
    revisions: Sequence[str],
    *,
    positions: Sequence[float | int] | None = None,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> pd.DataFrame:
    """Compute the mean onset of each kind of features, with an interval over features, to see which kinds come first.

    Args:
        onsets: a table with the columns feature and onset, such as ``evolve(...)["evolution"]``.
        kinds: a table with the columns feature and kind, as `feature_kinds` returns it.
        revisions, positions: see `onset_correlation`.
        bootstrap: of the intervals over features.

    Returns:
        One row for each kind: kind, n (features), onset (mean position), low, high, the earliest first.

    Raises:
        CrosstimeError: an onset is none of the revisions.
    """
    position_of = _positions(revisions, positions)
    _check_onsets(onsets.onset, position_of)
    merged = onsets[["feature", "onset"]].dropna().merge(kinds[["feature", "kind"]], on="feature")
    rows = []
    for kind, features in merged.groupby("kind", sort=True):
        onset_positions = torch.tensor(features.onset.astype(object).map(position_of).to_numpy(float))
        low, high = bootstrap_interval(onset_positions, bootstrap)
        rows.append((kind, len(features), float(onset_positions.mean()), float(low), float(high)))
    table = pd.DataFrame(rows, columns=["kind", "n", "onset", "low", "high"])
    return table.sort_values(["onset", "kind"], ignore_index=True)


def _positions(revisions: Sequence[str], positions: Sequence[float | int] | None) -> dict[str, float]:
    """The number that stands for each checkpoint."""
    numbers = list(range(len(revisions))) if positions is None else list(positions)
    if len(numbers) != len(revisions):
        raise CrosstimeError(f"{len(revisions)} checkpoints need as many positions, not {len(numbers)}.")
    return dict(zip(revisions, map(float, numbers), strict=True))


def _check_onsets(onsets: pd.Series, position_of: dict[str, float]) -> None:
    """Make sure that every onset is one of the checkpoints."""
    unknown = [str(name) for name in onsets.dropna().unique() if name not in position_of]
    if unknown:
        raise CrosstimeError(f"There is no checkpoint {unknown[0]!r}; onsets are among {', '.join(position_of)}.")
