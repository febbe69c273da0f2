"""The findings about the stability of effects, in words."""

from __future__ import annotations

import pandas as pd

from crosstime.effects.stability import RESAMPLED
from crosstime.effects.stability_options import PROMPTS


def stability_sentences(table: pd.DataFrame) -> list[str]:
    """A sentence about each task: over resampled prompts, and under the choice that changes most.

    Both are of the checkpoint at which the agreement is lowest.

    Args:
        table: as `crosstime.effect_stability` returns it, of any number of tasks.

    Examples:
        >>> row = {"task": "mine", "comparison": "baseline", "variant": "mean", "revision": "step8", "k": 10}
        >>> table = pd.DataFrame([row | {"jaccard": 0.5, "jaccard_low": 0.3, "jaccard_high": 0.7}])
        >>> stability_sentences(table)[0].partition(" on mine ")[2]
        'are least stable under baseline mean, with a Jaccard index of 0.50 [0.30, 0.70], at step8.'
    """
    sentences = []
    for task, rows in table[table.jaccard.notna()].groupby("task", sort=False):
        resampled = (rows.comparison == PROMPTS) & (rows.variant == RESAMPLED)
        others = rows[rows.comparison != PROMPTS]
        clauses = []
        if resampled.any():
            clauses.append(f"agree over resampled prompts with {_lowest(rows[resampled])}")
        if not others.empty:
            row = others.iloc[int(others.jaccard.argmin())]
            clauses.append(f"are least stable under {row.comparison} {row.variant}, with {_lowest(others)}")
        if clauses:
            subject = f"The {rows.k.iloc[0]} features with the largest effects on {task}"
            sentences.append(f"{subject} {', and '.join(clauses)}.")
    return sentences


def _lowest(rows: pd.DataFrame) -> str:
    """The lowest Jaccard index, with its interval and its checkpoint."""
    row = rows.iloc[int(rows.jaccard.argmin())]
    return f"a Jaccard index of {row.jaccard:.2f} [{row.jaccard_low:.2f}, {row.jaccard_high:.2f}], at {row.revision}"
