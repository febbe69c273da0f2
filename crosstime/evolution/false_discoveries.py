"""How many of a run's claims its null models make as well: expected numbers and false-discovery rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crosstime.errors import CrosstimeError
from crosstime.evolution.null_names import is_false_under
from crosstime.evolution.rate_intervals import rate_intervals

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

        rate      k / m                       interval: see `crosstime.evolution.rate_intervals`
        expected  n rate                      the claims expected if none were true
        fdr       min(1, expected / count)    NaN where count is 0

    The interval of the rate is that of Clopper & Pearson of as many independent features as the null's are worth:
    with several seeds, fewer where seeds differ more than independent features would. The features of one training
    are not independent, so that the interval from one seed leaves out how much trainings differ. `expected` supposes
    that no feature of the run is what it is claimed to be, so that it is too large where some are, and so is `fdr`;
    and that the run errs as often as the null model, so that both are too small where it errs more.

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

    Source: see `crosstime.evolution.rate_intervals` for the intervals.
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

    # The claims of each source together, which have one dispersion between seeds
    keys = list(dict.fromkeys(key for counts in (observed, *null_counts) for key in counts.index))
    rates: dict[tuple[str, str], tuple[int, int, list[float]]] = {}
    for source in sources.index:
        m = np.array([sizes.get(source, 0) for sizes in null_sources], dtype=float)
        if m.sum() == 0:
            continue
        of_source = [key for key in keys if key[0] == source]
        k = np.array([[counts.get(key, 0) for key in of_source] for counts in null_counts], dtype=float)
        for key, total, interval in zip(of_source, k.sum(0), rate_intervals(k, m, level=level).tolist(), strict=True):
            rates[key] = (int(total), int(m.sum()), interval)

    # One row for each claim, in the order of the run and then of the null
    rows = []
    for source, claim in (key for key in keys if key in rates):
        null_count, null_n, interval = rates[source, claim]
        count, n = int(observed.get((source, claim), 0)), int(sources[source])
        expected = n * np.array(interval)
        shares = np.minimum(1.0, expected / count) if count else np.full(3, np.nan)
        values = (null, source, claim, is_false_under(null, claim), count, n, len(null_claims), null_count, null_n)
        rows.append((*values, *interval, *expected.tolist(), *shares.tolist()))
    return pd.DataFrame(rows, columns=list(TABLE))
