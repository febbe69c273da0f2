"""Which features a report speaks of, in which order, and the table that stands in for their cards without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from crosstime.report.columns import ERROR_TERM, feature_name
from crosstime.report.numbers import MISSING, UNDEFINED, decimals_for
from crosstime.report.page.contexts import Context
from crosstime.report.page.markup import Markup, element
from crosstime.report.page.tables import Cell, numeric, table

if TYPE_CHECKING:
    from crosstime.report.page.inputs import ReportInput

DRAWN = 150
"""Most features in a chart with a line or point for each: more cannot be told apart, and make a page slow."""


def selected(*tables: pd.DataFrame, contexts: Mapping[int, Sequence[Context]]) -> list[int]:
    """Return every feature that any table or context speaks of, by largest |IE|, then by number."""
    features = {int(feature) for frame in tables for feature in frame["feature"]} | set(contexts)
    features.discard(ERROR_TERM)
    sizes: dict[int, float] = {}
    for frame in tables:
        if "ie" in frame:
            sizes = frame.assign(ie=frame["ie"].abs()).groupby("feature")["ie"].max().dropna().to_dict()
    return sorted(features, key=lambda feature: (-sizes.get(feature, -1.0), feature))


def drawn(frame: pd.DataFrame, report: ReportInput) -> pd.DataFrame:
    """Keep the rows of the `DRAWN` features with the largest |IE|, and of the error term."""
    kept = selected(report.effects, report.temporal, contexts={})[:DRAWN]
    return frame[frame["feature"].isin([*kept, ERROR_TERM])]


def strongest_note(report: ReportInput) -> str:
    """Say so where the charts hold only the strongest features; else nothing."""
    count = len(selected(report.effects, report.temporal, contexts={}))
    if count <= DRAWN:
        return ""
    return f"Charts with a line or a point for each feature show the {DRAWN} with the largest |IE| of {count:,}."


def feature_link(feature: int) -> Markup:
    """Link to a feature's card; the error term, which has none, is only named."""
    name = feature_name(feature)
    return element("span", name) if feature == ERROR_TERM else element("a", name, href=f"#{name}")


def singles(ablation: pd.DataFrame) -> pd.DataFrame:
    """Return the ablations of one feature alone, with its number in the column ``feature``."""
    rows = ablation[(ablation["kind"] == "single") & ablation["features"].str.isdecimal()]
    return rows.assign(feature=rows["features"].astype("int64"))


def feature_table(
    effects: pd.DataFrame,
    temporal: pd.DataFrame,
    classes: pd.DataFrame,
    ablation: pd.DataFrame,
    compared: Sequence[str],
    *,
    most: int = 100,
) -> Markup:
    """Show one row per feature and task, the `most` strongest: what a page without scripts has of its features."""
    last = compared[-1]
    ie = _lookup(effects, ("task", "feature", "revision"), "ie")
    relie = _lookup(temporal, ("task", "feature", "revision"), "relie")
    reldec = _lookup(temporal, ("task", "feature", "revision"), "reldec")
    by_ie = _lookup(classes, ("task", "feature"), "class_ie")
    by_dec = _lookup(classes, ("task", "feature"), "class_dec")
    change = _lookup(singles(ablation), ("task", "feature", "revision"), "accuracy_change")
    pairs = {
        (task, int(feature)): None
        for frame in (effects, temporal, classes)
        for task, feature in zip(frame["task"], frame["feature"], strict=True)
        if feature != ERROR_TERM
    }
    sizes = effects.assign(ie=effects["ie"].abs()).groupby(["task", "feature"])["ie"].max().dropna().to_dict()
    strength = {pair: sizes.get(pair, 0.0) for pair in pairs}
    decimals = decimals_for(strength.values())
    columns = ["feature", "task", *(f"IE {name}" for name in compared)]
    columns += [f"RelIE {last}", f"RelDec {last}", "class by RelIE", "class by RelDec", f"Δ\u00a0accuracy {last}"]
    nothing = float("nan")
    rows: list[list[Cell | str]] = []
    for task, feature in sorted(pairs, key=lambda pair: -strength[pair])[:most]:
        key = (task, feature)
        rows.append(
            [
                Cell(feature_name(feature), float(feature)),
                task,
                *(numeric(ie.get((*key, name), nothing), decimals) for name in compared),
                numeric(relie.get((*key, last), nothing), 2, missing=UNDEFINED),
                numeric(reldec.get((*key, last), nothing), 2, missing=UNDEFINED),
                by_ie.get(key, MISSING),
                by_dec.get(key, MISSING),
                numeric(change.get((*key, last), nothing), 3, sign=True),
            ]
        )
    return table(columns, rows, caption="Selected features, one row per feature and task, strongest first")


def _lookup(frame: pd.DataFrame, keys: tuple[str, ...], value: str) -> dict[tuple, object]:
    columns = zip(*(frame[key] for key in keys), strict=True) if len(frame) else ()
    return dict(zip(columns, frame[value], strict=True))
