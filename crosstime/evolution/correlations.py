"""Do RelIE and RelDec foretell what ablation does? Rank correlations with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crosstime.errors import CrosstimeError
from user_input.nearest import nearest


def change_correlations(
    effects: pd.DataFrame,
    ablation: pd.DataFrame,
    earlier: str,
    later: str,
    *,
    resamples: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Spearman's rho of the ratio of ablation changes with RelIE and RelDec, between two checkpoints.

    For every single feature, what its ablation changes at the later checkpoint relative to the earlier one,
    ``|change_later| / |change_earlier|``, is ranked against its RelIE and RelDec (the later checkpoint's share of the
    two). Features without any change are left out, since 0/0 has no rank.

    Args:
        effects: a table as `Attribution.table` gives it.
        ablation: a table as `ablate` gives it, single features named by their numbers.
        earlier, later: revisions.
        resamples, seed, level: of the bootstrap over features.

    Returns:
        One row for each task, change (accuracy, logit_difference) and measure (relie, reldec): task, change,
        measure, n, rho, low, high. NaN where fewer than three features are left, or all have one rank.

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
    single = ablation[ablation.features.astype(str).str.fullmatch(r"\d+")]
    for task, own in effects.groupby("task", sort=False):
        ie, norm = (
            own.pivot(index="feature", columns="revision", values=name).abs() for name in ("ie", "decoder_norm")
        )
        shares = {
            "relie": ie[later] / (ie[later] + ie[earlier]),
            "reldec": norm[later] / (norm[later] + norm[earlier]),
        }
        changes = single[single.task == task].assign(feature=lambda table: table.features.astype(int))
        for change in ("accuracy", "logit_difference"):
            size = changes.pivot(index="feature", columns="revision", values=f"{change}_change").abs()
            # The share orders features as the ratio does, and is finite where the earlier change is zero.
            share = size[later] / (size[later] + size[earlier])
            for measure, values in shares.items():
                pairs = pd.concat([share, values], axis=1, keys=["change", "measure"]).dropna().to_numpy()
                rho, low, high = _spearman(pairs, resamples, seed, level)
                rows.append(
                    {
                        "task": task,
                        "change": change,
                        "measure": measure,
                        "n": len(pairs),
                        "rho": rho,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(rows)


def _spearman(pairs: np.ndarray, resamples: int, seed: int, level: float) -> tuple[float, float, float]:
    """Spearman's rho with a percentile interval over rows, ties sharing their mean rank."""
    n = len(pairs)
    if n < 3:
        return float("nan"), float("nan"), float("nan")
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    samples = _weighted_rho(pairs, counts.astype(float))
    defined = samples[np.isfinite(samples)]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (float("nan"), float("nan"))
    return float(_weighted_rho(pairs, np.ones((1, n)))[0]), float(low), float(high)


def _weighted_rho(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation of mean ranks, for each row of how often every pair was drawn."""
    ranks = []
    for column in pairs.T:
        below = (column[None, :] < column[:, None]).astype(float)
        equal = (column[None, :] == column[:, None]).astype(float)
        ranks.append(counts @ below.T + (counts @ equal.T + 1) / 2)
    total = counts.sum(1, keepdims=True)
    centred = [rank - (counts * rank).sum(1, keepdims=True) / total for rank in ranks]
    covariance = (counts * centred[0] * centred[1]).sum(1)
    spread = np.sqrt((counts * centred[0] ** 2).sum(1) * (counts * centred[1] ** 2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, covariance / spread, np.nan)
