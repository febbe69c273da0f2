"""The findings about descriptions in a few sentences."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from crosstime.machine.storage import read_table
from crosstime.report.columns import RUN
from crosstime.runs.descriptions.options import FOLDER

FEATURES, SOURCES = "complexity", "sources"
"""Names of the tables in the folder of descriptions."""
_TEXT = dict.fromkeys(("source", "description", "onset", "peak", "note"), "str")


def description_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of the descriptions of a run, by their names; empty if there are none.

    Args:
        folder: of the run.
    """
    paths = {name: folder / FOLDER / f"{name}.csv" for name in (FEATURES, SOURCES)}
    if not all(path.exists() for path in paths.values()):
        return {}
    return {name: read_table(path, dtypes=_TEXT) for name, path in paths.items()}


def description_sentences(folder: Path) -> list[str]:
    """What a language model's descriptions say about the run, beside its null models; no sentences without any.

    Args:
        folder: of the run.
    """
    tables = description_tables(folder)
    if not tables:
        return []
    nulls = {str(row["source"]): pd.Series(row) for row in tables[SOURCES].to_dict("records")}
    run = nulls.pop(RUN)

    # Complexity against onset and against peak
    sentences: list[str] = []
    for place in ("onset", "peak"):
        if pd.notna(run[f"{place}_r"]):
            beside = [f"{_correlation(row, place)} under {name}" for name, row in nulls.items()]
            numbers = f"p = {run[f'{place}_p']:.2g}, n = {run[f'{place}_n']:.0f} features drawn at random"
            fit = f"r = {_correlation(run, place)}, {numbers}"
            sentences.append(f"Complexity against {place}: {'; '.join([fit, *beside])}.")

    # Scores
    for kind in ("detection", "fuzzing"):
        if pd.notna(run[kind]):
            beside = [f"{_mean(row, kind)} under {name}" for name, row in nulls.items()]
            first = f"Descriptions score {_mean(run, kind)} in {kind}, where guessing gives 0.50"
            sentences.append(f"{'; '.join([first, *beside])}.")
    if sentences and not nulls:
        sentences.append("No null model was described: what descriptions of random features score is not known.")
    return sentences


def _correlation(row: pd.Series, place: str) -> str:
    """Pearson's correlation of complexity with the onset or the peak, with its interval."""
    numbers = [row[f"{place}_{name}"] for name in ("r", "low", "high")]
    return "undefined" if pd.isna(numbers[0]) else _bounded(*numbers)


def _mean(row: pd.Series, kind: str) -> str:
    return "no score" if pd.isna(row[kind]) else _bounded(row[kind], row[f"{kind}_low"], row[f"{kind}_high"])


def _bounded(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
