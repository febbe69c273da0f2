"""The findings about descriptions, from tables written by hand."""

from __future__ import annotations

import pandas as pd

from crosstime.report.columns import COLUMNS
from crosstime.runs.descriptions.options import FOLDER
from crosstime.runs.descriptions.sentences import FEATURES, SOURCES, description_sentences


def sentences(folder, *sources: dict[str, object]) -> list[str]:
    """The findings of a folder with one row for each source; other numbers are missing."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    pd.DataFrame(columns=COLUMNS["complexity"]).to_csv(place / f"{FEATURES}.csv", index=False)
    rows = [dict.fromkeys(COLUMNS["descriptions"]) | source for source in sources]
    pd.DataFrame(rows, columns=COLUMNS["descriptions"]).to_csv(place / f"{SOURCES}.csv", index=False)
    return description_sentences(folder)


def fit(place: str, r: float, low: float, high: float, p: float, n: int) -> dict[str, object]:
    return {f"{place}_r": r, f"{place}_low": low, f"{place}_high": high, f"{place}_p": p, f"{place}_n": n}


def test_complexity_has_a_sentence_about_the_onset_and_one_about_the_peak(tmp_path):
    run = {"source": "run", **fit("onset", 0.31, 0.1, 0.5, 0.004, 80), **fit("peak", -0.2, -0.41, 0.02, 0.07, 80)}
    null = {"source": "random-weights-0", **fit("onset", 0.05, -0.2, 0.3, 0.6, 70)}
    assert sentences(tmp_path, run, null) == [
        "Complexity against onset: r = 0.31 [0.10, 0.50], p = 0.004, n = 80 features drawn at random; "
        "0.05 [-0.20, 0.30] under random-weights-0.",
        "Complexity against peak: r = -0.20 [-0.41, 0.02], p = 0.07, n = 80 features drawn at random; "
        "undefined under random-weights-0.",
    ]


def test_what_is_undefined_in_the_run_has_no_sentence(tmp_path):
    run = {"source": "run", **fit("peak", 0.5, 0.2, 0.7, 0.001, 12)}
    assert sentences(tmp_path, run) == [
        "Complexity against peak: r = 0.50 [0.20, 0.70], p = 0.001, n = 12 features drawn at random.",
        "No null model was described: what descriptions of random features score is not known.",
    ]
    assert sentences(tmp_path, {"source": "run"}) == []
