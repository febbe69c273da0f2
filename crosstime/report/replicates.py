"""Which features count as replicated over seeds."""

from __future__ import annotations

import pandas as pd


def replicates(table: pd.DataFrame) -> pd.Series:
    """Whether each feature is in more than half of the crosscoders of several seeds, its own counted.

    Args:
        table: others (number of other crosscoders) and matches (in how many of them the feature has a match), as
            `crosstime.replication` and `crosstime.replicated_claims` return them.

    Examples:
        >>> replicates(pd.DataFrame({"others": 2, "matches": [0, 1, 2]})).tolist()
        [False, True, True]
    """
    return 2 * (table["matches"] + 1) > table["others"] + 1
