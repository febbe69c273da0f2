"""The findings of a run in a few sentences, and the groups of features whose ablation tests them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.evolution.claims import DIPS, EXPLAINED
from crosstime.report.columns import PRESENCE_TEST, UNDECIDED
from crosstime.report.expected_under_null import expected_words
from user_input.first_names import first_names

ALL = "all selected"
MAX_NAMED = 5
"""Upper bound of the features of one kind that a sentence names."""
_LIFE_CYCLES = {
    "emerging": ("emerges", "emerge"),
    "transient": ("is transient", "are transient"),
    "maintained": ("is maintained for a while", "are maintained for a while"),
    "discontinued": ("is discontinued", "are discontinued"),
}
"""Life cycles in which a feature comes or goes, as verbs in the singular and in the plural."""
_SHARING = {
    "specific": ("is specific", "are specific"),
    "partly shared": ("is shared", "are shared"),
}
"""The same for models side by side: what only some of them have."""
_WITHOUT_CHECKPOINTS = {"intermittent": "intermittent", "never": "never there", UNDECIDED: UNDECIDED}
"""Other answers of the test of presence, in words."""


@dataclass(frozen=True)
class Group:
    """Features that are ablated together.

    Attributes:
        kind: ``single``, ``set``, or ``random`` for a control.
        features: the features.
    """

    kind: str
    features: list[int]


def ablation_groups(effects: pd.DataFrame, decomposed: DecomposedTask, *, seed: int = 0) -> dict[str, Group]:
    """The groups of features to ablate on one task: each selected feature, all of them, each class, and controls.

    A control has as many features as a set, drawn from those that fire on the task's prompts and were not selected.

    Args:
        effects: the table ``effects`` of a run, of any number of tasks; the classes are those of ``selection_class``,
            so that they do not depend on the prompts on which the groups are ablated.
        decomposed: the decomposed prompts of the task.
        seed: seed of the controls.

    Returns:
        The groups, by the name that tables give them.
    """
    # The selected features, and their classes
    selected = effects[effects.task == decomposed.task.name].drop_duplicates("feature")
    groups = {str(feature): Group("single", [feature]) for feature in selected.feature}
    sets = {ALL: selected.feature.tolist()}
    for label, members in selected.groupby("selection_class", sort=False):
        if label not in ("shared", "undefined", "spread"):
            sets[str(label)] = members.feature.tolist()

    # A control for each size of set
    firing = torch.unique(decomposed.codes.feature).tolist()
    candidates = sorted(set(firing) - set(selected.feature))
    generator = torch.Generator().manual_seed(seed)
    controls: dict[str, Group] = {}
    for name, features in sets.items():
        groups[f"{name} ({len(features)})"] = Group("set", features)
        if len(candidates) >= len(features):
            indices = torch.randperm(len(candidates), generator=generator)[: len(features)].tolist()
            controls.setdefault(f"{len(features)} random", Group("random", [candidates[index] for index in indices]))
    return groups | controls


def summary(
    accuracy: pd.DataFrame,
    effects: pd.DataFrame,
    ablation: pd.DataFrame,
    revisions: Sequence[str],
    nulls: pd.DataFrame | None = None,
    *,
    ordered: bool = True,
) -> str:
    """The main finding in plain words, the accuracy of the compared checkpoints, and how many features were selected.

    Args:
        accuracy, effects, ablation: tables of a run.
        revisions: the compared checkpoints.
        nulls: the table of null models of the run, which gives the number that is expected beside that of a class.
        ordered: whether they are points of one training, rather than models side by side.
    """
    sentences = [sentence for sentence in [_strongest_ablation(ablation, effects, nulls)] if sentence]
    for task, rows in accuracy[accuracy.revision.isin(revisions)].groupby("task", sort=False):
        by_revision = rows.set_index("revision").accuracy
        values = ", ".join(f"{by_revision[revision]:.2f} at {revision}" for revision in revisions)
        sentences.append(f"Accuracy on {task}: {values}.")
    sentences.append(
        f"{effects.feature.nunique()} features were selected by their indirect effect "
        f"{'at one or more' if ordered else 'in one or more'} of {len(revisions)} "
        f"{'checkpoints' if ordered else 'models'}."
    )
    return " ".join(sentences)


def emergence(life_cycles: pd.DataFrame, nulls: pd.DataFrame | None = None, *, ordered: bool = True) -> list[str]:
    """A sentence about each task: which of the selected features emerge, are transient or are discontinued.

    Args:
        life_cycles: the table ``life_cycles`` of `crosstime.evolve`, of which the strongest features of each task
            are counted.
        ordered: whether the checkpoints are points of one training; of models side by side it is said which features
            are specific to some.
        nulls: the table of null models of the run, which gives the number that is expected beside each count.

    Examples:
        >>> table = pd.DataFrame({"task": "mine", "feature": [3, 5, 8], "label": "emerges at main"})
        >>> emergence(table.assign(life_cycle="emerging", strongest=True))
        ['By their effects on mine, of 3 selected features 3 emerge (at main: f3, f5, f8).']
    """
    sentences = []
    none = "none came or went" if ordered else "all are shared by all models"
    for task, rows in life_cycles[life_cycles.strongest].groupby("task", sort=False):
        clauses = [
            _clause(
                rows[rows.life_cycle == kind],
                *verbs,
                expected="" if nulls is None else expected_words(nulls, f"IE: {task}", kind),
            )
            for kind, verbs in (_LIFE_CYCLES if ordered else _SHARING).items()
        ]
        clauses = [clause for clause in clauses if clause]
        features = "feature" if len(rows) == 1 else "features"
        sentences.append(f"By their effects on {task}, of {len(rows)} selected {features} {_listed(clauses) or none}.")
    return sentences


def presence_sentences(lives: pd.DataFrame, nulls: pd.DataFrame | None = None, *, ordered: bool = True) -> list[str]:
    """A sentence about the selected features by the test of presence: which are there throughout, and which are not.

    Args:
        lives: the table ``presence`` of `crosstime.evolve`.
        nulls: the table of null models of the run, which gives the number that is expected beside each count.
        ordered: whether the checkpoints are points of one training.

    Examples:
        >>> lives = pd.DataFrame({"feature": [3, 5], "life_cycle": ["emerging", "undecided"]})
        >>> presence_sentences(lives.assign(label=["emerges at main", "undecided"]))
        ['By the test of presence on held-out text, of 2 selected features 1 emerges (at main: f3) and 1 is undecided.']
    """
    table = lives.drop_duplicates("feature")
    partly = _LIFE_CYCLES if ordered else _SHARING
    throughout = "at all checkpoints" if ordered else "in all models"
    everywhere = "always" if ordered else "shared"

    def expected(kind: str) -> str:
        return "" if nulls is None else expected_words(nulls, PRESENCE_TEST, kind)

    # Features that are there throughout, come or go, and those of other answers
    clauses = [
        _count(table, everywhere, f"is there {throughout}", f"are there {throughout}", expected=expected(everywhere)),
        *(_clause(table[table.life_cycle == kind], *verbs, expected=expected(kind)) for kind, verbs in partly.items()),
        *(
            _count(table, kind, f"is {words}", f"are {words}", expected=expected(kind))
            for kind, words in _WITHOUT_CHECKPOINTS.items()
        ),
    ]
    clauses = [clause for clause in clauses if clause]
    if not clauses:
        return []
    features = "feature" if len(table) == 1 else "features"
    listed = _listed(clauses)
    return [f"By the test of presence on held-out text, of {len(table)} selected {features} {listed}."]


def absorption_sentences(absorption: pd.DataFrame) -> list[str]:
    """A sentence: how many of the selected features that end look absorbed by a child; none if no feature ends.

    Args:
        absorption: the table ``absorption`` of `crosstime.evolve`.

    Examples:
        >>> row = {"parent": [3, 5], "child": [8, 2], "absorbed": [True, False]}
        >>> absorption_sentences(pd.DataFrame(row))
        ['Of 2 selected features that end by the test of presence, 1 looks absorbed by a more specific one (f3 by f8).']
    """
    if absorption.empty:
        return []
    absorbed = absorption[absorption.absorbed.astype(str).str.lower() == "true"]
    pairs = [f"f{parent} by f{child}" for parent, child in zip(absorbed.parent, absorbed.child, strict=True)]
    which = f" ({first_names(pairs, MAX_NAMED)})" if pairs else ""
    verb = "looks" if len(absorbed) < 2 else "look"
    features = "feature that ends" if len(absorption) == 1 else "features that end"
    count = len(absorbed) or "none"
    return [
        f"Of {len(absorption)} selected {features} by the test of presence, {count} {verb} absorbed by a more specific "
        f"one{which}."
    ]


def _count(table: pd.DataFrame, life_cycle: str, singular: str, plural: str, *, expected: str = "") -> str:
    """How many features have a life cycle that needs no checkpoints, and how many are expected; empty without any."""
    count = int((table.life_cycle == life_cycle).sum())
    words = f"{count} {singular if count == 1 else plural}"
    return (f"{words} ({expected})" if expected else words) if count else ""


def _listed(clauses: Sequence[str]) -> str:
    return " and ".join([", ".join(clauses[:-1]), clauses[-1]] if clauses[1:] else clauses)


def _clause(rows: pd.DataFrame, singular: str, plural: str, *, expected: str = "") -> str:
    """How many features have a life cycle, and for each label, such as "emerges at main", which; empty without any.

    With null models, the number that is expected under the null comes last.
    """
    labels = []
    for label, members in rows.groupby("label", sort=False):
        named = first_names([f"f{feature}" for feature in members.feature], MAX_NAMED)
        labels.append(f"{str(label).partition(' ')[2]}: {named}")
    if not labels:
        return ""
    labels += [expected] if expected else []
    return f"{len(rows)} {singular if len(rows) == 1 else plural} ({'; '.join(labels)})"


def dip_count(explained: Sequence[bool], nulls: pd.DataFrame) -> list[str]:
    """A sentence: how many of the tested dips are explained, and how many are expected to be; none without a dip.

    Args:
        explained: whether each tested dip is explained.
        nulls: the table of null models of the run.

    Examples:
        >>> claim = {"source": ["dips"], "claim": "explained", "false": "True"}
        >>> dip_count([True, False], pd.DataFrame(claim | {"expected": 0.0, "low": 0.0, "high": 1.95}))
        ['Explained dips: 1 of 2 (0 [0, 1.9] expected under the null).']
    """
    words = expected_words(nulls, DIPS, EXPLAINED)
    return [f"Explained dips: {sum(explained)} of {len(explained)} ({words})."] if explained and words else []


def _strongest_ablation(ablation: pd.DataFrame, effects: pd.DataFrame, nulls: pd.DataFrame | None) -> str | None:
    """The ablation of the class of features whose effects at one checkpoint add up to the most, and its control.

    The effects are those on the prompts of the selection. To take the class whose ablation changes accuracy most would
    be a selection by the number that the sentence reports.
    """
    sets = ablation[(ablation.kind == "set") & ~ablation.features.str.startswith(ALL)]
    if sets.empty:
        return None

    # The class
    axes = ["task", "revision", "selection_class"]
    totals = effects.groupby(axes, sort=False).selection_ie.sum().abs()
    classes = sets.features.str.rpartition(" (")[0]
    strengths = totals.reindex(pd.MultiIndex.from_arrays([sets.task, sets.revision, classes], names=axes))
    if strengths.isna().all():
        return None
    row = sets.iloc[int(np.nanargmax(strengths.to_numpy()))]
    label, _, count = str(row.features).rpartition(" (")
    size = count.rstrip(")")
    before = row.accuracy - row.accuracy_change
    features = "feature" if size == "1" else "features"
    words = "" if nulls is None else expected_words(nulls, f"RelIE: {row.task}", label)
    expected = f" ({words})" if words else ""
    sentence = (
        f"Without the {size} {features} of class {label!r}{expected}, accuracy on {row.task} at {row.revision} goes "
        f"from {before:.2f} to {row.accuracy:.2f}{_change(row)}"
    )

    # Its control
    same = (ablation.task == row.task) & (ablation.revision == row.revision)
    controls = ablation[same & (ablation.features == f"{size} random")]
    if controls.empty:
        return f"{sentence}."
    control = controls.iloc[0]
    return f"{sentence}; without {size} random {features}, to {control.accuracy:.2f}{_change(control)}."


def _change(row: pd.Series) -> str:
    """The change in accuracy with its interval, in brackets."""
    return f" ({row.accuracy_change:+.2f} [{row.accuracy_change_low:+.2f}, {row.accuracy_change_high:+.2f}])"
