"""A notebook with charts, converted to HTML and opened in a real browser with the network off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

TABLE = """
import pandas as pd
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.norms import norms_chart

rows = [
    {"task": "t", "feature": feature, "revision": f"step{step}", "ie": feature + step, "low": 0, "high": 9,
     "relie": 0.3, "relie_low": 0.2, "relie_high": 0.4, "reldec": 0.3, "decoder_norm": 1 + feature + step}
    for feature in range(4)
    for step in range(3)
]
table = pd.DataFrame(rows)
"""
CHARTS = ("effects_chart(table)", "norms_chart(table)", "effects_chart(table)")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[dev]'")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(source) for source in (TABLE, *CHARTS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return notebook


def page_of(notebook: Any, folder: Path) -> Path:
    nbconvert = pytest.importorskip("nbconvert")
    # Libraries of nbconvert's own template, which it loads from elsewhere
    exporter = nbconvert.HTMLExporter(require_js_url="", jquery_url="", mathjax_url="", mermaid_js_url="")
    page = folder / "notebook.html"
    page.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
    return page


def test_charts_of_a_converted_notebook_draw_without_a_network(tab: Any, executed: Any, tmp_path: Path) -> None:
    assert len(json.dumps(executed)) < 1_200_000  # the scripts of all charts once
    page = tab.open(page_of(executed, tmp_path))
    page.wait_for_function("document.querySelectorAll('[data-crosstime-chart] .chart-wrapper > svg').length === 3")
    assert page.locator("[data-crosstime-chart] > img").count() == 0
    for index in range(3):
        chart = page.locator("[data-crosstime-chart]").nth(index)
        assert chart.locator("g.mark-symbol path").count() >= 12
    assert tab.complaints == []
    assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []

    # Tooltips, which pictures have not
    page.locator("[data-crosstime-chart] g.mark-symbol.role-mark path").last.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "checkpoint" in page.locator("#vg-tooltip-element").inner_text()


def test_charts_are_pictures_where_the_output_with_the_scripts_was_deleted(
    tab: Any, executed: Any, tmp_path: Path
) -> None:
    remaining = executed.copy()
    remaining["cells"] = [executed.cells[0], *executed.cells[2:]]
    page = tab.open(page_of(remaining, tmp_path))
    sizes = page.eval_on_selector_all("[data-crosstime-chart] > img", "all => all.map(image => image.naturalWidth)")
    assert len(sizes) == 2
    assert min(sizes) > 200
    assert tab.complaints == []


def test_charts_that_appear_before_the_scripts_are_drawn_when_these_arrive(
    tab: Any, executed: Any, tmp_path: Path
) -> None:
    turned = executed.copy()
    turned["cells"] = executed.cells[::-1]
    page = tab.open(page_of(turned, tmp_path))
    page.wait_for_function("document.querySelectorAll('[data-crosstime-chart] .chart-wrapper > svg').length === 3")
    assert tab.complaints == []
