"""The layouts of a chart on narrow and wide screens, and the heights that the page keeps for them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from crosstime.report.charts.norms import norms_chart
from crosstime.report.charts.training_curves import CURVES, training_chart
from crosstime.report.charts.vega import specification, to_svg
from crosstime.report.page.layouts import Layout, layouts, picture_of, reserved_heights, with_layouts

PANEL, SPACING, ROOM = 110, 86, 220 + 84
"""Of a chart of training curves: height of a panel, pixels between two rows, and width that a panel needs."""


def curves(n: int) -> pd.DataFrame:
    values = {name: [float(step + index) for step in range(3)] for index, name in enumerate(list(CURVES)[:n])}
    return pd.DataFrame({"step": range(3), **values}).reindex(columns=["step", *CURVES])


@pytest.mark.parametrize(("n", "rows"), [(5, [5, 5, 3, 2]), (4, [4, 4, 2, 2]), (2, [2, 2, 1])])
def test_panels_that_find_no_room_beside_each_other_make_the_chart_higher(n: int, rows: list[int]) -> None:
    spec = specification(training_chart(curves(n)))
    svg = to_svg(spec)
    arranged = layouts(spec, svg)
    assert [layout.room for layout in arranged] == [0, 560, 2 * ROOM, 3 * ROOM][: len(rows)]
    drawn = picture_of(svg).height
    assert [layout.height for layout in arranged] == [drawn + (row - rows[-1]) * (PANEL + SPACING) for row in rows]


def test_a_legend_has_one_column_on_a_narrow_screen() -> None:
    names = ["step0", "step64", "step256", "main"]
    table = pd.DataFrame(
        [{"feature": 1, "revision": name, "reldec": 0.25, "decoder_norm": 1.0 + i} for i, name in enumerate(names)]
    )
    spec = specification(norms_chart(table, names))
    narrow, wide = layouts(spec, to_svg(spec))
    assert (narrow.room, narrow.columns, wide.room, wide.columns) == (0, 1, 560, 1)
    assert narrow.legend_columns == 1
    assert wide.legend_columns == spec["config"]["legend"]["columns"] == 2


def test_the_style_sheet_keeps_the_height_of_every_layout_where_scripts_run() -> None:
    spec = specification(training_chart(curves(5)))
    arranged = with_layouts(spec, to_svg(spec))
    assert "layouts" not in spec["usermeta"]
    style = reserved_heights({"training": arranged})
    assert style.startswith("@media screen and (scripting: enabled) {")
    heights = [entry["height"] for entry in arranged["usermeta"]["layouts"]]
    assert [float(text) for text in re.findall(r"min-height: ([\d.]+)px", style)] == heights
    widths = [float(text) for text in re.findall(r"\(min-width: ([\d.]+)px\)", style)]
    assert widths == [559.5, 2 * ROOM - 0.5, 3 * ROOM - 0.5]
    assert reserved_heights({}) == ""


def test_a_chart_without_a_legend_is_as_high_on_a_phone() -> None:
    spec = specification(training_chart(curves(1)))
    svg = to_svg(spec)
    height = picture_of(svg).height
    assert layouts(spec, svg) == [Layout(0, 1, 1, height), Layout(560, 1, 2, height)]
