"""The findings about the stability of effects, in words."""

from __future__ import annotations

import pandas as pd

from crosstime.effects.stability import RESAMPLED
from crosstime.effects.stability_options import PROMPTS, TEMPLATES


def stability_sentences(table: pd.DataFrame) -> list[str]:
    """What each task's strongest features depend on: the prompts, the option that changes most, and the template.

    Each comparison is stated from the checkpoint with the lowest to the one with the highest agreement, because a
    checkpoint that has not learned the task has effects of noise alone. Of options and of templates, the variant with
    the lowest mean agreement over checkpoints is named.

    Args:
        table: as `crosstime.effect_stability` returns it, of any number of tasks.

    Examples:
        >>> row = {"task": "mine", "comparison": "baseline", "variant": "mean", "revision": "step8", "k": 10}
        >>> table = pd.DataFrame([row | {"jaccard": 0.5, "jaccard_low": 0.3, "jaccard_high": 0.7}])
        >>> stability_sentences(table)[0].partition(": ")[2]
        'Jaccard index 0.50 [0.30, 0.70] at step8.'
    """
    sentences = []
    for task, rows in table[table.jaccard.notna()].groupby("task", sort=False):
        features = f"the {rows.k.iloc[0]} features with the largest effects on {task}"
        prompts = rows[(rows.comparison == PROMPTS) & (rows.variant == RESAMPLED)]
        templates = _least_stable(rows[rows.comparison == TEMPLATES])
        options = _least_stable(rows[~rows.comparison.isin((PROMPTS, TEMPLATES))])
        if not prompts.empty:
            sentences.append(f"Over resampled prompts, {features} agree: Jaccard index {_range(prompts)}.")
        if not options.empty:
            option = f"{options.comparison.iloc[0]} {options.variant.iloc[0]}"
            sentences.append(
                f"Of the other choices, {option} changes {features} most: Jaccard index {_range(options)}."
            )
        if not templates.empty:
            template = f"prompts with {templates.variant.iloc[0]} and all others"
            sentences.append(f"Between {template}, {features} differ most: Jaccard index {_range(templates)}.")
    return sentences


def _least_stable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the variant with the lowest mean agreement over checkpoints."""
    if rows.empty:
        return rows
    means = rows.groupby(["comparison", "variant"], sort=False).jaccard.mean()
    comparison, variant = means.index[int(means.argmin())]
    return rows[(rows.comparison == comparison) & (rows.variant == variant)]


def _range(rows: pd.DataFrame) -> str:
    """The lowest and the highest Jaccard index over checkpoints, each with its interval; once if they are the same."""
    ends = [rows.iloc[int(rows.jaccard.argmin())], rows.iloc[int(rows.jaccard.argmax())]]
    texts = [f"{row.jaccard:.2f} [{row.jaccard_low:.2f}, {row.jaccard_high:.2f}] at {row.revision}" for row in ends]
    return texts[0] if ends[0].jaccard == ends[1].jaccard else " to ".join(texts)
