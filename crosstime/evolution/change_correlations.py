"""Do RelIE and RelDec predict what ablation changes? Rank correlations with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from crosstime.errors import CrosstimeError
from interventions import Bootstrap, interval
from interventions.bootstrap import resample_counts
from user_input.nearest import nearest


def change_correlations(
    effects: pd.DataFrame,
    ablation: pd.DataFrame,
    earlier: str,
    later: str,
    *,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> pd.DataFrame:
    """Spearman's rho of the ratio of ablation changes with RelIE and RelDec, between two checkpoints.

    Features that are ablated alone are ranked by the change at the later checkpoint relative to the earlier one,
    ``|change_later| / |change_earlier|``, and by their RelIE and RelDec (the later checkpoint's share of the two).
    Features without any change are left out, since 0/0 has no rank.

    Args:
        effects: a table of `Attribution.table`.
        ablation: a table of `ablate`, in which single features are named by their numbers.
        earlier, later: revisions.
        bootstrap: of the intervals over features.

    Returns:
        One row for each task, change (accuracy, logit_difference) and measure (relie, reldec): task, change, measure, n
        (features), rho, low, high. NaN where fewer than three features are left, or all have one rank.

    Raises:
        CrosstimeError: a revision that the tables do not have.

    Examples:
        >>> change_correlations(table, ablation, "step512", "main")  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 5.
    """
    for revision in (earlier, later):
        if revision not in set(effects.revision) & set(ablation.revision):
            raise CrosstimeError(
                f"The tables have no revision {revision!r}: {nearest(revision, set(effects.revision))}"
            )

    rows = []
    single_features = ablation[ablation.features.astype(str).str.fullmatch(r"\d+")]
    for task, task_effects in effects.groupby("task", sort=False):
        # RelIE and RelDec of every feature
        measures = {
            "relie": _later_share(task_effects, "ie", earlier, later),
            "reldec": _later_share(task_effects, "decoder_norm", earlier, later),
        }

        # Correlate them with the changes
        changes = single_features[single_features.task == task]
        changes = changes.assign(feature=changes.features.astype(int))
        for change in ("accuracy", "logit_difference"):
            # The share orders features as the ratio does, and is finite where the earlier change is zero.
            share = _later_share(changes, f"{change}_change", earlier, later)
            for measure, values in measures.items():
                pairs = pd.concat([share, values], axis=1, keys=["change", "measure"]).dropna().to_numpy()
                rho, low, high = _spearman(pairs, bootstrap)
                row = {"task": task, "change": change, "measure": measure, "n": len(pairs)}
                rows.append(row | {"rho": rho, "low": low, "high": high})
    return pd.DataFrame(rows)


def _later_share(table: pd.DataFrame, column: str, earlier: str, later: str) -> pd.Series:
    """``|later| / (|later| + |earlier|)`` of a column of a long table, for each feature."""
    size = table.pivot(index="feature", columns="revision", values=column).abs()
    return size[later] / (size[later] + size[earlier])


def _spearman(pairs: Float[np.ndarray, "N 2"], bootstrap: Bootstrap) -> tuple[float, float, float]:
    """Spearman's rho and its percentile interval over pairs; equal values share their mean rank."""
    n = len(pairs)
    if n < 3:
        return float("nan"), float("nan"), float("nan")
    counts = resample_counts(n, bootstrap)
    low, high = interval(torch.from_numpy(_weighted_rho(pairs, counts.astype(float))), bootstrap)
    return float(_weighted_rho(pairs, np.ones((1, n)))[0]), float(low), float(high)


def _weighted_rho(pairs: Float[np.ndarray, "N 2"], counts: Float[np.ndarray, "R N"]) -> Float[np.ndarray, " R"]:
    """Pearson's correlation of mean ranks, for each of R resamples given as counts of the pairs.

    `scipy.stats.spearmanr` takes no counts: it would be called once for each resample.
    """
    # Mean rank of each value in each resample
    ranks = []
    for column in pairs.T:
        smaller = (column[None, :] < column[:, None]).astype(float)
        equal = (column[None, :] == column[:, None]).astype(float)
        ranks.append(counts @ smaller.T + (counts @ equal.T + 1) / 2)

    # Correlation of the ranks
    total = counts.sum(1, keepdims=True)
    centred = [rank - (counts * rank).sum(1, keepdims=True) / total for rank in ranks]
    covariance = (counts * centred[0] * centred[1]).sum(1)
    spread = np.sqrt((counts * centred[0] ** 2).sum(1) * (counts * centred[1] ** 2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, covariance / spread, np.nan)
