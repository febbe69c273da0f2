"""Tables for papers: complete, escaped, and with the numbers of the report."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import report_sample as sample

from crosstime.machine.storage import read_table
from crosstime.report.columns import COLUMNS
from crosstime.report.page.write_tables import CAPTIONS, escape, latex, write_tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_tables(sample.sample(), folder)
    return folder


def test_every_table_is_written_as_csv_and_latex_and_read_back_the_same(folder: Path) -> None:
    # Where there are effects, the norms of decoders are among RelIE and RelDec
    names = [name for name in (*COLUMNS, "facts") if name != "decoders"]
    assert {path.name for path in folder.glob("*.csv")} == {f"{name}.csv" for name in names}
    assert {path.name for path in folder.glob("*.tex")} == {f"{name}.tex" for name in CAPTIONS}
    report = sample.sample()
    for name in names:
        expected = getattr(report, name)
        texts = dict.fromkeys(expected.select_dtypes(exclude="number").columns, str)
        restored = read_table(folder / f"{name}.csv", dtypes=texts).fillna(dict.fromkeys(texts, ""))
        pd.testing.assert_frame_equal(restored, expected, check_dtype=False)


def test_latex_has_one_row_a_row_and_one_column_a_column(folder: Path) -> None:
    text = (folder / "effects.tex").read_text(encoding="utf-8")
    body = text.split("\\endhead\n")[1].split("\\bottomrule")[0].strip().splitlines()
    effects = sample.sample().effects
    assert len(body) == len(effects)
    assert {len(re.split(r"(?<!\\)&", line)) for line in body} == {len(effects.columns)}
    assert text.count("{") == text.count("}")


def test_numbers_of_a_column_share_their_decimals_and_missing_ones_are_dashes() -> None:
    frame = pd.DataFrame({"name": ["a", "b", "c"], "value": [0.1234, -2.0, float("nan")], "n": [1.0, 20.0, 300.0]})
    rows = latex(frame, "c", "tab:c").splitlines()[5:8]
    assert rows == ["a & 0.12 & 1 \\\\", "b & $-$2.00 & 20 \\\\", "c & -- & 300 \\\\"]


def test_text_that_latex_would_read_is_escaped() -> None:
    assert escape("a_b & 5% #1 $x$ {y} \\z ~^") == (
        "a\\_b \\& 5\\% \\#1 \\$x\\$ \\{y\\} \\textbackslash{}z \\textasciitilde{}\\textasciicircum{}"
    )
