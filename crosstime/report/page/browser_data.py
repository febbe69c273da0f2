"""What the feature browser of the page is given: every feature's numbers, tokens and contexts as compact JSON."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from crosstime.report.columns import fact_title, in_order
from crosstime.report.page.contexts import Context, pieces
from crosstime.report.page.features import selected, singles

if TYPE_CHECKING:
    from crosstime.report.page.inputs import ReportInput

SIDES = ("promoted", "suppressed")
DIGITS = 4
"""Significant digits of a number on a card."""


def browser_data(report: ReportInput) -> dict[str, Any]:
    """Return what `cards.js` and `browser.js` draw, small enough for a thousand features in one page.

    Numbers have four significant digits, a missing one is null, and every token is written once::

        {"id": ..., "revisions": [...], "tasks": [...], "languages": [one a task],
         "strings": [[text, sign, text, ...], ...], "facts": [column, ...],
         "features": [{"id": 123, "facts": [...], "norms": [one a revision], "reldec": [one a revision],
                       "tasks": {task: {"ie": [[ie, low, high], ...], "relie": [[...], ...], "change": [...],
                                        "by_ie": class, "by_dec": class}},
                       "logits": [[promoted, suppressed] a revision, each [string, effect, string, effect, ...]],
                       "contexts": [{"task": string, "source": ..., "label": ..., "tokens": [string, ...],
                                     "activations": [...], "effects": {revision: [...]}, "right": string, ...}]}]}

    Args:
        report: the checked tables.

    Examples:
        >>> browser_data(report)["features"][0]["id"]
        405
    """
    tables = (report.effects, report.temporal, report.classes)
    features = selected(*tables, contexts=report.contexts)
    tasks = list(dict.fromkeys(name for frame in tables for name in in_order(frame["task"])))
    revisions = list(report.compared)
    strings = _Strings()
    numbers = _numbers(report)
    norms = _table(
        report.temporal.drop_duplicates(["feature", "revision"]), ["feature", "revision"], ["decoder_norm", "reldec"]
    )
    logits = _logits(report.logit_effects, strings)
    names = [name for name in report.facts.columns if name != "feature"]
    facts = {
        int(row[0]): [_plain(value) for value in row[1:]]
        for row in report.facts[["feature", *names]].itertuples(index=False, name=None)
    }
    listed = []
    for feature in features:
        entry: dict[str, Any] = {"id": feature, "tasks": numbers.get(feature, {})}
        found = [norms.get((feature, revision), (None, None)) for revision in revisions]
        entry["norms"], entry["reldec"] = [one[0] for one in found], [one[1] for one in found]
        if feature in facts:
            entry["facts"] = facts[feature]
        if feature in logits:
            entry["logits"] = [[logits[feature].get((revision, side), []) for side in SIDES] for revision in revisions]
        if contexts := report.contexts.get(feature):
            ranked = sorted(contexts, key=_strength)
            entry["contexts"] = [_context(context, strings) for context in ranked]
        listed.append(entry)
    return {
        "id": _identity(report, features),
        "revisions": revisions,
        "tasks": tasks,
        "languages": [report.languages.get(task, "") for task in tasks],
        "facts": [fact_title(name) for name in names],
        "strings": strings.written,
        "features": listed,
    }


def _identity(report: ReportInput, features: Sequence[int]) -> str:
    """What annotations are kept under: the same when the same report is made again, another for another crosscoder."""
    return hashlib.sha256(repr((report.title, list(report.compared), sorted(features))).encode()).hexdigest()[:16]


class _Strings:
    """Every token's text once, in pieces, and its place in the list."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self._place: dict[str, int] = {}

    def place(self, token: str) -> int:
        if token not in self._place:
            self._place[token] = len(self.written)
            self.written.append(pieces(token))
        return self._place[token]


def _numbers(report: ReportInput) -> dict[int, dict[str, dict[str, Any]]]:
    """Feature -> task -> what is known of it at each revision."""
    keys = ["task", "feature", "revision"]
    ie = _table(report.effects, keys, ["ie", "low", "high"])
    relie = _table(report.temporal, keys, ["relie", "relie_low", "relie_high"])
    change = _table(singles(report.ablation), keys, ["accuracy_change"])
    classes = _table(report.classes, ["task", "feature"], ["class_ie", "class_dec"])
    pairs = dict.fromkeys([key[:2] for table in (ie, relie, change) for key in table] + list(classes))
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for task, feature in pairs:
        each = [(task, feature, revision) for revision in report.compared]
        by_ie, by_dec = classes.get((task, feature), ("", ""))
        found.setdefault(feature, {})[task] = {
            "ie": [ie.get(key, (None, None, None)) for key in each],
            "relie": [relie.get(key, (None, None, None)) for key in each],
            "change": [change.get(key, (None,))[0] for key in each],
            "by_ie": by_ie,
            "by_dec": by_dec,
        }
    return found


def _logits(table: pd.DataFrame, strings: _Strings) -> dict[int, dict[tuple[str, str], list[Any]]]:
    found: dict[int, dict[tuple[str, str], list[Any]]] = {}
    for row in table.sort_values("rank", kind="stable").itertuples():
        entries = found.setdefault(row.feature, {}).setdefault((row.revision, row.side), [])
        entries += [strings.place(row.token), _plain(row.effect)]
    return found


def _strength(context: Context) -> tuple[bool, float]:
    return context.source != "task", -float(context.peak)


def _context(context: Context, strings: _Strings) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "task": strings.place(context.task),
        "source": context.source,
        "tokens": [strings.place(token) for token in context.tokens],
        "activations": _rounded(context.activations, 3),
    }
    if context.effects:
        # No effect at any token is as good as none measured, and most checkpoints of most prompts have none.
        listed = {revision: _rounded(values, 3) for revision, values in context.effects.items()}
        entry["effects"] = {revision: values for revision, values in listed.items() if any(values)}
    if context.label:
        entry["label"] = context.label
    if context.right or context.wrong:
        entry["right"], entry["wrong"] = strings.place(context.right), strings.place(context.wrong)
    return entry


def _table(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> dict[Any, tuple[Any, ...]]:
    columns: list[Iterable[Hashable]] = [frame[key].tolist() for key in keys]
    rows = zip(*([_plain(value) for value in frame[name].tolist()] for name in values), strict=True)
    return dict(zip(zip(*columns, strict=True), rows, strict=True))


def _rounded(values: Sequence[float | int], digits: int) -> list[float | int | None]:
    return [_plain(value, digits) for value in values]


def _plain(value: Any, digits: int = DIGITS) -> Any:
    """Text as it is; a number with a few digits, and as a whole number where it is one; NaN as null."""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
