"""Which features a report shows, in which order, and the table that replaces their cards without scripts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from crosstime.report.columns import ERROR_TERM, feature_name
from crosstime.report.numbers import MISSING, UNDEFINED, decimals_for
from crosstime.report.page.context import Context
from crosstime.report.page.markup import Markup, element
from crosstime.report.page.tables import Cell, number_cell, table
from crosstime.report.replicates import replicates

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

DRAWN = 150
"""Most features in a chart with a line or a point per feature: more cannot be told apart, and make the page slow."""


def selected_features(*tables: pd.DataFrame, contexts: Mapping[int, Sequence[Context]]) -> list[int]:
    """Return every feature that occurs in a table or has contexts, by largest |IE|, then by number."""
    features = {int(feature) for frame in tables for feature in frame["feature"]} | set(contexts)
    features.discard(ERROR_TERM)
    sizes: dict[int, float] = {}
    for frame in tables:
        if "ie" in frame:
            largest = frame["ie"].abs().groupby(frame["feature"]).max().dropna()
            sizes = dict(zip(largest.index.tolist(), largest.tolist(), strict=True))
    return sorted(features, key=lambda feature: (-sizes.get(feature, -1.0), feature))


def strongest_rows(frame: pd.DataFrame, report: ReportInput) -> pd.DataFrame:
    """Return the rows of the `DRAWN` features with the largest |IE|, of those that replicate, and of the error term."""
    features = shown_features(report)[:DRAWN]
    return frame[frame["feature"].isin([*features, ERROR_TERM])]


def shown_features(report: ReportInput) -> list[int]:
    """Return the features that charts and tables show: with several seeds, those that most seeds have; if none, all."""
    features = selected_features(report.effects, report.temporal, report.decoders, contexts={})
    replicated = set(report.replication["feature"][replicates(report.replication)].astype("int64"))
    return [feature for feature in features if not replicated or feature in replicated]


def replication_note(report: ReportInput) -> str:
    """Return a sentence that says which features charts and tables omit because few seeds have them, or nothing."""
    if report.replication.empty:
        return ""
    n_all = len(selected_features(report.effects, report.temporal, report.decoders, contexts={}))
    n_shown, n_seeds = len(shown_features(report)), int(report.replication["others"].iloc[0]) + 1
    if not replicates(report.replication).any():
        return f"No selected feature is in more than half of the {n_seeds} seeds; all {n_all} are shown."
    return (
        f"Charts and tables show the {n_shown} of {n_all} selected features that are in more than half of the "
        f"{n_seeds} seeds; the browser below has all of them, and so do the CSV tables."
    )


def strongest_note(report: ReportInput) -> str:
    """Return a sentence that says that the charts omit features, or the empty string if they do not."""
    count = len(shown_features(report))
    if count <= DRAWN:
        return ""
    return f"Charts with a line or a point for each feature show the {DRAWN} with the largest |IE| of {count:,}."


def feature_link(feature: int) -> Markup:
    """Link to the card of a feature; the error term has none, so it is only named."""
    name = feature_name(feature)
    return element("span", name) if feature == ERROR_TERM else element("a", name, href=f"#{name}")


def shown_ablations(report: ReportInput) -> pd.DataFrame:
    """Return the ablations without those of single features that are not shown."""
    single = single_ablations(report.ablation)
    return report.ablation.drop(single.index[~single["feature"].isin(shown_features(report))])


def single_ablations(ablation: pd.DataFrame) -> pd.DataFrame:
    """Return the ablations of single features, with the number of the feature in the column ``feature``."""
    single = ablation[(ablation["kind"] == "single") & ablation["features"].str.isdecimal()]
    return single.assign(feature=single["features"].astype("int64"))


def feature_table(report: ReportInput, *, rows: int = 100) -> Markup:
    """Return a table with one row per feature and task, strongest first, for a page without scripts.

    Args:
        report: the checked tables.
        rows: largest number of rows.
    """
    last = report.compared[-1]
    key = ("task", "feature", "revision")
    ie = _numbers(report.effects, key, "ie")
    relie, reldec = _numbers(report.temporal, key, "relie"), _numbers(report.temporal, key, "reldec")
    change = _numbers(single_ablations(report.ablation), key, "accuracy_change")
    class_ie = _texts(report.classes, ("task", "feature"), "class_ie")
    class_dec = _texts(report.classes, ("task", "feature"), "class_dec")

    # Order the pairs of feature and task by their largest |IE|
    strength: dict[tuple[str, int], float] = {}
    for frame in (report.effects, report.temporal, report.classes):
        for task, feature in zip(frame["task"], frame["feature"], strict=True):
            if feature != ERROR_TERM:
                strength.setdefault((task, int(feature)), 0.0)
    for task, feature, value in zip(*(report.effects[name] for name in ("task", "feature", "ie")), strict=True):
        if (task, feature) in strength and not math.isnan(value):
            strength[task, feature] = max(strength[task, feature], abs(value))
    shown = set(shown_features(report))
    strongest = sorted((pair for pair in strength if pair[1] in shown), key=lambda pair: -strength[pair])[:rows]

    # One row per pair
    decimals = decimals_for(strength.values())
    cells: list[list[Cell | str]] = [
        [
            Cell(feature_name(feature), float(feature)),
            task,
            *(number_cell(ie.get((task, feature, name), math.nan), decimals) for name in report.compared),
            number_cell(relie.get((task, feature, last), math.nan), 2, missing=UNDEFINED),
            number_cell(reldec.get((task, feature, last), math.nan), 2, missing=UNDEFINED),
            class_ie.get((task, feature), MISSING),
            class_dec.get((task, feature), MISSING),
            number_cell(change.get((task, feature, last), math.nan), 3, sign=True),
        ]
        for task, feature in strongest
    ]
    columns = ["feature", "task", *(f"IE {name}" for name in report.compared)]
    columns += [f"RelIE {last}", f"RelDec {last}", "class by RelIE", "class by RelDec", f"Δ\u00a0accuracy {last}"]
    return table(columns, cells, caption="Selected features, one row per feature and task, strongest first")


def _keys(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[tuple[Hashable, ...]]:
    return list(zip(*(frame[column].tolist() for column in columns), strict=True))


def _numbers(frame: pd.DataFrame, keys: tuple[str, ...], value: str) -> dict[tuple[Hashable, ...], float]:
    """Return a column of numbers by the values of the columns `keys`."""
    return dict(zip(_keys(frame, keys), frame[value].astype(float).tolist(), strict=True))


def _texts(frame: pd.DataFrame, keys: tuple[str, ...], value: str) -> dict[tuple[Hashable, ...], str]:
    """Return a column of text by the values of the columns `keys`."""
    return dict(zip(_keys(frame, keys), frame[value].tolist(), strict=True))
