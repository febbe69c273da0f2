"""The sentence about tokens of huge norm in an evaluation, where there are any."""

from __future__ import annotations

import pandas as pd

from crosstime.report.numbers import number
from crosstime.report.rows import rows


def outlier_note(evaluation: pd.DataFrame) -> str | None:
    """Say how much a few tokens of huge norm decide about an evaluation, at the checkpoint where they matter most.

    Args:
        evaluation: a table of `crosstime.evaluate`, or one without its columns about outliers.

    Returns:
        A sentence; None where no token has a norm beyond 10 times the median.

    Examples:
        >>> outlier_note(pd.DataFrame({"revision": ["main"], "outliers": [0]})) is None
        True
    """
    if "outliers" not in evaluation or not (evaluation["outliers"] > 0).any():
        return None
    affected = evaluation[evaluation["outliers"] > 0]
    worst = max(rows(affected), key=lambda row: row.number("top_norm_share"))
    n_checkpoints = f"at {len(affected)} of {len(evaluation)} checkpoints" if len(evaluation) > 1 else "here"
    return (
        f"Tokens with a norm beyond 10 times the median exist {n_checkpoints}. At {worst.text('revision')} they are "
        f"{number(worst.number('outliers'), 0)} tokens, the largest .1 % of all tokens have "
        f"{100 * worst.number('top_norm_share'):.0f} % of the squared norm, and the variance explained is "
        f"{number(worst.number('fve'))} with them and {number(worst.number('fve_without_outliers'))} without."
    )
