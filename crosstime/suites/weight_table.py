"""Which weights results were computed with, as a table."""

from __future__ import annotations

import pandas as pd

from crosstime.errors import SuiteError
from crosstime.suites.suite import Suite

COLUMNS = ("revision", "file", "digest", "commit", "equal_to")


def weight_table(suite: Suite) -> pd.DataFrame:
    """The weight files of every checkpoint of a suite; those on a server, about which nothing is known, are left out.

    Returns:
        One row for each file, also of the base model of an adapter: revision, file, digest (SHA-256, see
        `crosstime.suites.weights.WeightFile`), commit of the Hub repository, and equal_to, the other revisions that
        have the same file.

    Examples:
        >>> weight_table(suite)  # doctest: +SKIP
    """
    # Read the weights
    weights = {}
    for revision in suite.revisions:
        try:
            weights[revision] = suite.weights(revision)
        except SuiteError:
            continue

    # Find equal files
    owners: dict[str, list[str]] = {}
    for revision, known in weights.items():
        for file in (*known.files, *known.base):
            owners.setdefault(file.digest, []).append(revision)

    # One row for each file
    rows = [
        {
            "revision": revision,
            "file": file.name,
            "digest": file.digest,
            "commit": known.commit,
            "equal_to": ", ".join(name for name in dict.fromkeys(owners[file.digest]) if name != revision),
        }
        for revision, known in weights.items()
        for file in (*known.files, *known.base)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
