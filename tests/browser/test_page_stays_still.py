"""Nothing on the page moves when charts are drawn, which happens while the reader reads, points and clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

COUNT_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((entry) => entry.value)))
  .observe({ type: "layout-shift", buffered: true });
"""

HOLD_CHARTS = """
let embed;
let release;
const released = new Promise((resolve) => (release = resolve));
window.drawCharts = () => release();
Object.defineProperty(window, "vegaEmbed", {
  get: () => embed,
  set: (drawn) => (embed = (...options) => released.then(() => drawn(...options))),
});
"""
"""Charts are drawn when the test calls ``drawCharts``."""

BREAK_CHARTS = """
Object.defineProperty(window, "vegaEmbed", { get: () => async () => { throw new Error("no") }, set() {} });
"""

TOPS = "parts => parts.map(part => [part.id || part.dataset.chart, part.getBoundingClientRect().top + scrollY])"
PARTS = "main > section, [data-chart], main table, #browser"


@pytest.mark.parametrize("width", [1280, 390, 700, 1600])
def test_drawing_the_charts_moves_nothing(tab: Any, sample_report: Path, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.context.add_init_script(COUNT_SHIFTS)
    page = tab.open(sample_report)
    before = page.eval_on_selector_all(PARTS, TOPS)
    assert len(before) > 40
    tab.draw_all()
    after = page.eval_on_selector_all(PARTS, TOPS)
    moved = [(name, top, now) for (name, top), (_, now) in zip(before, after, strict=True) if abs(top - now) > 1]
    assert moved == []
    # The sum of what the browser reports, as shares of the screen
    assert sum(page.evaluate("window.shifts")) < 0.01


@pytest.mark.parametrize("width", [1280, 390])
def test_a_control_is_still_there_when_charts_are_drawn_while_the_button_is_down(
    tab: Any, sample_report: Path, width: int
) -> None:
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.context.add_init_script(HOLD_CHARTS)
    page = tab.open(sample_report)
    control = page.locator("#browser details.more > summary")
    control.scroll_into_view_if_needed()
    box = control.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("drawCharts()")
    page.wait_for_selector("[data-chart=complexity][data-drawn]")
    page.mouse.up()
    page.wait_for_selector("#browser details.more[open]")


def test_a_place_takes_the_height_of_its_picture_where_a_chart_cannot_be_drawn(tab: Any, sample_report: Path) -> None:
    tab.context.add_init_script(BREAK_CHARTS)
    tab.page.set_viewport_size({"width": 390, "height": 900})
    page = tab.open(sample_report)
    place = page.locator("[data-chart=effects]")
    place.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('[data-chart=effects]').style.minHeight === '0px'")
    page.wait_for_function("() => document.querySelector('[data-chart=effects] img').complete")
    heights = place.bounding_box()["height"], place.locator("img").bounding_box()["height"]
    assert heights[0] == pytest.approx(heights[1], abs=1)
    assert all("stays a picture" in complaint for complaint in tab.complaints)
