"""The finding of a run in a few sentences, and the ablations that test it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from crosstime.crosscoders.decompose import DecomposedTask

ALL = "all selected"
NAMED = 5
"""Features of one kind that a sentence names."""


@dataclass(frozen=True)
class Group:
    """Features that are ablated together.

    Attributes:
        kind: ``single``, ``set`` or ``random`` (a control of the same size).
        features: which.
    """

    kind: str
    features: list[int]


def ablation_groups(effects: pd.DataFrame, decomposed: DecomposedTask, *, seed: int = 0) -> dict[str, Group]:
    """What to ablate on one task: each selected feature, all of them, each class of them, and controls.

    A control has as many features as a set, drawn from those that fire on the task's prompts and were not
    selected.

    Args:
        effects: a table as `Attribution.table` gives it, of any number of tasks.
        decomposed: the task's decomposed prompts.
        seed: of the controls.
    """
    own = effects[effects.task == decomposed.task.name].drop_duplicates("feature")
    groups = {str(feature): Group("single", [feature]) for feature in own.feature}
    sets = {ALL: own.feature.tolist()}
    for label, members in own.groupby("class_ie", sort=False):
        if label not in ("shared", "undefined", "spread"):
            sets[str(label)] = members.feature.tolist()
    firing = torch.unique(decomposed.clean[0].codes.feature).tolist()
    others = sorted(set(firing) - set(own.feature))
    generator = torch.Generator().manual_seed(seed)
    controls: dict[str, Group] = {}
    for name, features in sets.items():
        groups[f"{name} ({len(features)})"] = Group("set", features)
        if len(others) >= len(features):
            drawn = torch.randperm(len(others), generator=generator)[: len(features)].tolist()
            controls.setdefault(f"{len(features)} random", Group("random", [others[index] for index in drawn]))
    return groups | controls


def summary(accuracy: pd.DataFrame, effects: pd.DataFrame, ablation: pd.DataFrame, revisions: Sequence[str]) -> str:
    """Say in plain words what the features do, how well the checkpoints do, and what was looked at."""
    sentences = [sentence for sentence in [_strongest(ablation)] if sentence]
    for task, rows in accuracy[accuracy.revision.isin(revisions)].groupby("task", sort=False):
        at = rows.set_index("revision").accuracy
        sentences.append(f"Accuracy on {task}: " + ", ".join(f"{at[name]:.2f} at {name}" for name in revisions) + ".")
    sentences.append(
        f"{effects.feature.nunique()} features were selected by their indirect effect at any of {len(revisions)} "
        "checkpoints."
    )
    return " ".join(sentences)


def emergence(lives: pd.DataFrame) -> list[str]:
    """Say, for each task, which of the selected features emerged, came and went, or were given up, by their effects.

    Args:
        lives: the table ``life_cycles`` of `crosstime.evolve`, of which the strongest on each task count.

    Examples:
        >>> lives = pd.DataFrame({"task": "mine", "feature": [3, 5, 8], "label": "emerges at main"})
        >>> emergence(lives.assign(life_cycle="emerging", strongest=True))
        ['By their effects on mine, of 3 selected features 3 emerge (at main: f3, f5, f8).']
    """
    sentences = []
    for task, rows in lives[lives.strongest].groupby("task", sort=False):
        said = [_counted(rows[rows.life_cycle == kind], *words) for kind, words in _LIVES.items()]
        said = [part for part in said if part]
        listed = " and ".join([", ".join(said[:-1]), said[-1]] if said[1:] else said) or "none came or went"
        features = "feature" if len(rows) == 1 else "features"
        sentences.append(f"By their effects on {task}, of {len(rows)} selected {features} {listed}.")
    return sentences


_LIVES = {
    "emerging": ("emerges", "emerge"), "transient": ("is transient", "are transient"),
    "maintained": ("is maintained for a while", "are maintained for a while"),
    "discontinued": ("is discontinued", "are discontinued"),
}  # fmt: skip
"""Lives in which a feature comes or goes, as they are said of one and of several."""


def _counted(rows: pd.DataFrame, one: str, several: str) -> str:
    """How many features, and for each label, such as "emerges at main", which; nothing where there are none."""
    parts = []
    for label, own in rows.groupby("label", sort=False):
        named = ", ".join(f"f{feature}" for feature in own.feature[:NAMED])
        more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
        parts.append(f"{str(label).partition(' ')[2]}: {named}{more}")
    return f"{len(rows)} {one if len(rows) == 1 else several} ({'; '.join(parts)})" if parts else ""


def _strongest(ablation: pd.DataFrame) -> str | None:
    """The class of features whose removal moves accuracy most at one checkpoint, next to its control."""
    sets = ablation[(ablation.kind == "set") & ~ablation.features.str.startswith(ALL)]
    if sets.empty:
        return None
    row = sets.loc[sets.accuracy_change.abs().idxmax()]
    label, _, count = row.features.rpartition(" (")
    size = count.rstrip(")")
    before = row.accuracy - row.accuracy_change
    features = "feature" if size == "1" else "features"
    text = (
        f"Without the {size} {features} of class {label!r}, accuracy on {row.task} at {row.revision} goes from "
        f"{before:.2f} to {row.accuracy:.2f}{_bounds(row)}"
    )
    same = (ablation.task == row.task) & (ablation.revision == row.revision)
    control = ablation[same & (ablation.features == f"{size} random")]
    if control.empty:
        return f"{text}."
    beside = control.iloc[0]
    return f"{text}; without {size} random {features}, to {beside.accuracy:.2f}{_bounds(beside)}."


def _bounds(row: pd.Series) -> str:
    """The change in accuracy with its interval, in brackets."""
    return f" ({row.accuracy_change:+.2f} [{row.accuracy_change_low:+.2f}, {row.accuracy_change_high:+.2f}])"
