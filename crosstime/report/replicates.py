"""Which features count as replicated over seeds."""

from __future__ import annotations

import pandas as pd


def replicates(table: pd.DataFrame, column: str = "matches") -> pd.Series:
    """Whether each feature, or a claim about it, is in more than half of the crosscoders, its own counted.

    Args:
        table: others (number of other crosscoders) and a column of counts of them, as `crosstime.replication` and
            `crosstime.replicated_claims` return them.
        column: the counts: those of ``matches`` of the feature, or of a claim, such as ``same_class``.

    Examples:
        >>> replicates(pd.DataFrame({"others": 2, "matches": [0, 1, 2]})).tolist()
        [False, True, True]
    """
    return 2 * (table[column] + 1) > table["others"] + 1
