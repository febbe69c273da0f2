"""How many of a run's claims its null models make as well: expected numbers and false-discovery rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from crosstime.errors import CrosstimeError
from crosstime.evolution.null_names import is_false_under

TABLE = (
    "null",
    "source",
    "claim",
    "false",
    "count",
    "n",
    "seeds",
    "null_count",
    "null_n",
    "rate",
    "rate_low",
    "rate_high",
    "expected",
    "low",
    "high",
    "fdr",
    "fdr_low",
    "fdr_high",
)
"""Columns of `false_discoveries`."""


def false_discoveries(
    claims: pd.DataFrame, null_claims: Sequence[pd.DataFrame], null: str, *, level: float = 0.95
) -> pd.DataFrame:
    """Compare the claims of a run with those that the same pipeline makes under a null model.

    With k of m features that have the claim under the null, summed over its seeds, and n features of the run, of which
    `count` have the claim::

        rate      k / m                       interval: Clopper-Pearson, of k d and m d
        expected  n rate                      the claims expected if none were true
        fdr       min(1, expected / count)    NaN where count is 0

    ``d = 1`` with one seed. With S seeds, ``d = min(1, 1 / X)`` for ``X = sum_s (k_s - m_s rate)^2 / (m_s rate (1 -
    rate)) / (S - 1)``: where seeds differ more than independent features would, the interval is that of fewer features
    (Rao & Scott 1992). The features of one training are not independent, so that the interval from one seed leaves out
    how much trainings differ. `expected` supposes that no feature of the run is what it is claimed to be, so that it is
    an upper bound where some are, and so is `fdr`.

    Args:
        claims: source, claim, count and n of the run; see `crosstime.evolution.claims`.
        null_claims: the same table of each seed of the null model.
        null: name of the null model, one of `crosstime.evolution.null_names.NULLS`.
        level: level of the intervals.

    Returns:
        One row for each claim that is made by the run or under the null: null, source, claim, false (whether the claim
        is false by construction under the null, so that `fdr` is a false-discovery rate), count, n, seeds, null_count
        and null_n (k and m), rate, expected and fdr with the bounds of their intervals (rate_low, rate_high; low, high;
        fdr_low, fdr_high).

    Raises:
        CrosstimeError: there is no seed, or the level is not between 0 and 1.

    Examples:
        >>> columns = ["source", "claim", "count", "n"]
        >>> run = pd.DataFrame([("RelDec", "main only", 18, 400)], columns=columns)
        >>> null = pd.DataFrame([("RelDec", "main only", 1, 500)], columns=columns)
        >>> table = false_discoveries(run, [null], "same-checkpoint")
        >>> table[["expected", "low", "high", "fdr"]].round(2).values.tolist()
        [[0.8, 0.02, 4.44, 0.04]]

    Source: Clopper & Pearson 1934; Rao & Scott 1992 for seeds that differ.
    """
    if not null_claims:
        raise CrosstimeError("A null model needs at least one seed.")
    if not 0 < level < 1:
        raise CrosstimeError(f"The level of an interval is between 0 and 1, not {level}.")

    # Numbers of features of each source, which a claim that nobody makes has too
    sources = claims.drop_duplicates("source").set_index("source").n
    null_sources = [table.drop_duplicates("source").set_index("source").n for table in null_claims]
    observed = claims.set_index(["source", "claim"])["count"]
    null_counts = [table.set_index(["source", "claim"])["count"] for table in null_claims]

    # One row for each claim, in the order of the run and then of the null
    rows = []
    keys = dict.fromkeys(key for counts in (observed, *null_counts) for key in counts.index)
    for source, claim in keys:
        k = np.array([counts.get((source, claim), 0) for counts in null_counts], dtype=float)
        m = np.array([sizes.get(source, 0) for sizes in null_sources], dtype=float)
        if source not in sources or m.sum() == 0:
            continue
        count, n = int(observed.get((source, claim), 0)), int(sources[source])
        rate, rate_low, rate_high = rate_interval(k, m, level=level)
        expected = n * np.array([rate, rate_low, rate_high])
        shares = np.minimum(1.0, expected / count) if count else np.full(3, np.nan)
        values = (null, source, claim, is_false_under(null, claim), count, n, len(k), int(k.sum()), int(m.sum()))
        rows.append((*values, rate, rate_low, rate_high, *expected.tolist(), *shares.tolist()))
    return pd.DataFrame(rows, columns=list(TABLE))


def rate_interval(
    counts: Sequence[float] | np.ndarray, sizes: Sequence[float] | np.ndarray, *, level: float = 0.95
) -> tuple[float, float, float]:
    """The rate of a claim over seeds, and its interval; see `false_discoveries`.

    Args:
        counts: features with the claim, of each seed.
        sizes: all features, of each seed.
        level: level of the interval.

    Examples:
        >>> [round(value, 4) for value in rate_interval([0.0], [100.0])]
        [0.0, 0.0, 0.0362]
    """
    k, m = np.asarray(counts, dtype=float), np.asarray(sizes, dtype=float)
    rate = float(k.sum() / m.sum())

    # Where seeds differ more than independent features would, there are fewer independent ones
    independent = 1.0
    seeds = m > 0
    if seeds.sum() > 1 and 0 < rate < 1:
        squares = (k - m * rate)[seeds] ** 2 / (m[seeds] * rate * (1 - rate))
        independent = min(1.0, (seeds.sum() - 1) / max(float(squares.sum()), 1e-12))

    # Clopper-Pearson
    successes, trials, tail = float(k.sum()) * independent, float(m.sum()) * independent, (1 - level) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return rate, min(low, rate), max(high, rate)
