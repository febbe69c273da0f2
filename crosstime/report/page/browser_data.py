"""The data of the feature browser: every feature's numbers, tokens and contexts as compact JSON.

The types below are the format that `browser.js` and `cards.js` read. Numbers have four significant digits, a missing
number is null, and every token is stored once in ``strings`` and referred to by its index.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import pandas as pd

from crosstime.report.columns import distinct, fact_title
from crosstime.report.page.context import Context
from crosstime.report.page.features import selected_features, single_ablations
from crosstime.report.page.visible_parts import visible_parts
from crosstime.report.rows import rows

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

SIDES = ("promoted", "suppressed")

DIGITS = 4
"""Significant digits of a number on a card."""
TOKEN_DIGITS = 3
"""Significant digits of an activation or an effect at a token."""

Number: TypeAlias = float | int | None
Fact: TypeAlias = str | float | int | None


class TaskData(TypedDict):
    """Numbers of a feature on one task: ``ie`` and ``relie`` hold (value, low, high) for each revision."""

    ie: list[tuple[Number, ...]]
    relie: list[tuple[Number, ...]]
    change: list[Number]
    by_ie: str
    by_dec: str


class ContextData(TypedDict, total=False):
    """A context; its task, tokens and continuations are indices of strings."""

    task: int
    source: str
    tokens: list[int]
    activations: list[Number]
    effects: dict[str, list[Number]]
    label: str
    right: int
    wrong: int


class FeatureData(TypedDict, total=False):
    """A feature: norms and reldec per revision; logits per revision and side as index, effect, index, effect, ..."""

    id: int
    tasks: dict[str, TaskData]
    norms: list[Number]
    reldec: list[Number]
    facts: list[Fact]
    logits: list[list[list[Number]]]
    contexts: list[ContextData]


class BrowserData(TypedDict):
    """Everything that the browser shows.

    ``noun`` is what a revision is, ``languages`` are those of the tasks, ``facts`` the titles of a feature's facts.
    """

    id: str
    noun: str
    revisions: list[str]
    tasks: list[str]
    languages: list[str]
    facts: list[str]
    strings: list[list[str]]
    features: list[FeatureData]


def browser_data(report: ReportInput) -> BrowserData:
    """Return what the feature browser shows, compact enough for a thousand features in one page.

    Args:
        report: the checked tables.

    Examples:
        >>> browser_data(report)["features"][0]["id"]  # doctest: +SKIP
        405
    """
    tables = (report.effects, report.temporal, report.classes)
    features = selected_features(*tables, report.decoders, contexts=report.contexts)
    revisions = list(report.compared)
    tasks = list(dict.fromkeys(name for frame in tables for name in distinct(frame["task"])))

    # Look up the numbers of every feature
    strings = _Strings()
    task_data = _task_data(report)
    norms = _lookup(report.decoder_norms, ["feature", "revision"], ["decoder_norm", "reldec"])
    logits = _logits(report.logit_effects, strings)
    fact_names = [str(name) for name in report.facts.columns.drop("feature")]
    facts = _facts(report.facts, fact_names)

    # One entry per feature, without the keys that it has no values for
    entries: list[FeatureData] = []
    for feature in features:
        pairs = [norms.get((feature, revision), (None, None)) for revision in revisions]
        entry: FeatureData = {
            "id": feature,
            "tasks": task_data.get(feature, {}),
            "norms": [norm for norm, _ in pairs],
            "reldec": [reldec for _, reldec in pairs],
        }
        if feature in facts:
            entry["facts"] = facts[feature]
        if feature in logits:
            entry["logits"] = [[logits[feature].get((revision, side), []) for side in SIDES] for revision in revisions]
        if contexts := report.contexts.get(feature):
            entry["contexts"] = [_context_data(context, strings) for context in sorted(contexts, key=_precedence)]
        entries.append(entry)

    return {
        "id": _identity(report, features),
        "noun": report.words("checkpoint"),
        "revisions": revisions,
        "tasks": tasks,
        "languages": [report.languages.get(task, "") for task in tasks],
        "facts": [fact_title(name) for name in fact_names],
        "strings": strings.parts,
        "features": entries,
    }


class _Strings:
    """The distinct texts of tokens, each split into its visible parts."""

    def __init__(self) -> None:
        self.parts: list[list[str]] = []
        self._index: dict[str, int] = {}

    def index(self, token: str) -> int:
        """Return the index of a token, which is added if it is new."""
        if token not in self._index:
            self._index[token] = len(self.parts)
            self.parts.append(visible_parts(token))
        return self._index[token]


def _identity(report: ReportInput, features: Sequence[int]) -> str:
    """Return the key under which the browser stores annotations: the same for a repeated report, else different."""
    return hashlib.sha256(repr((report.title, list(report.compared), sorted(features))).encode()).hexdigest()[:16]


def _task_data(report: ReportInput) -> dict[int, dict[str, TaskData]]:
    """Return the numbers of each feature on each task."""
    keys = ["task", "feature", "revision"]
    ie = _lookup(report.effects, keys, ["ie", "low", "high"])
    relie = _lookup(report.temporal, keys, ["relie", "relie_low", "relie_high"])
    change = _lookup(single_ablations(report.ablation), keys, ["accuracy_change"])
    classes = {
        (row.text("task"), row.integer("feature")): (row.text("class_ie"), row.text("class_dec"))
        for row in rows(report.classes)
    }

    # Collect the pairs of task and feature in the order of the tables
    pairs: dict[tuple[str, int], None] = {}
    for frame in (report.effects, report.temporal, single_ablations(report.ablation), report.classes):
        pairs |= dict.fromkeys(zip(frame["task"].tolist(), frame["feature"].tolist(), strict=True))

    # Collect the numbers of each pair
    data: dict[int, dict[str, TaskData]] = {}
    missing = (None, None, None)
    for task, feature in pairs:
        class_ie, class_dec = classes.get((task, feature), ("", ""))
        data.setdefault(feature, {})[task] = {
            "ie": [ie.get((task, feature, revision), missing) for revision in report.compared],
            "relie": [relie.get((task, feature, revision), missing) for revision in report.compared],
            "change": [change.get((task, feature, revision), missing)[0] for revision in report.compared],
            "by_ie": class_ie,
            "by_dec": class_dec,
        }
    return data


def _logits(table: pd.DataFrame, strings: _Strings) -> dict[int, dict[tuple[str, str], list[Number]]]:
    """Return the logit effects of each feature by revision and side, by rank."""
    logits: dict[int, dict[tuple[str, str], list[Number]]] = {}
    for row in rows(table.sort_values("rank", kind="stable")):
        entries = logits.setdefault(row.integer("feature"), {}).setdefault((row.text("revision"), row.text("side")), [])
        entries += [strings.index(row.text("token")), _rounded(row.number("effect"))]
    return logits


def _facts(table: pd.DataFrame, names: Sequence[str]) -> dict[int, list[Fact]]:
    """Return the facts of each feature in the order of `names`."""
    columns = [table[name].tolist() for name in names]
    values = zip(*columns, strict=True) if columns else ([] for _ in range(len(table)))
    return {
        feature: [value if isinstance(value, str) else _rounded(value) for value in facts]
        for feature, facts in zip(table["feature"].tolist(), values, strict=True)
    }


def _precedence(context: Context) -> tuple[bool, float]:
    """Return a sort key: prompts of tasks before text of a corpus, then by the largest activation."""
    return context.source != "task", -float(context.peak)


def _context_data(context: Context, strings: _Strings) -> ContextData:
    data: ContextData = {
        "task": strings.index(context.task),
        "source": context.source,
        "tokens": [strings.index(token) for token in context.tokens],
        "activations": [_rounded(value, TOKEN_DIGITS) for value in context.activations],
    }
    if context.effects:
        # A revision without any effect is left out to save space: most prompts have none at most checkpoints
        effects = {
            revision: [_rounded(value, TOKEN_DIGITS) for value in values]
            for revision, values in context.effects.items()
        }
        data["effects"] = {revision: values for revision, values in effects.items() if any(values)}
    if context.label:
        data["label"] = context.label
    if context.right or context.wrong:
        data["right"], data["wrong"] = strings.index(context.right), strings.index(context.wrong)
    return data


def _lookup(
    frame: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]
) -> dict[tuple[Hashable, ...], tuple[Number, ...]]:
    """Return the rounded values of `columns` by the values of the columns `keys`."""
    values = zip(*([_rounded(value) for value in frame[name].tolist()] for name in columns), strict=True)
    return dict(zip(zip(*(frame[key].tolist() for key in keys), strict=True), values, strict=True))


def _rounded(value: float | int, digits: int = DIGITS) -> Number:
    """Round to significant digits; a whole number becomes an integer, NaN becomes None."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
