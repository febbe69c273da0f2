"""How a chart is arranged on screens of different widths, and the height that the page keeps for it.

A chart becomes interactive when the reader comes near it. The page keeps the height of the interactive chart from the
beginning, so that nothing below it moves when it is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from crosstime.report.charts.vega import data_uri, to_svg

NARROW = 560
"""Width in pixels below which a legend has one column."""

_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"')


class Picture(NamedTuple):
    """A chart as a data URI, and its size in pixels."""

    uri: str
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """How a chart is arranged where there is room for it.

    Attributes:
        room: least width in pixels of the place on the page.
        columns: number of panels beside each other.
        legend_columns: number of columns of the legend.
        height: height of the chart in pixels.
    """

    room: int
    columns: int
    legend_columns: int
    height: float


def picture_of(svg: str) -> Picture:
    """Return a chart that was rendered as SVG for the page."""
    return Picture(data_uri(svg), *_size(svg))


def layouts(spec: Mapping[str, Any], svg: str) -> list[Layout]:
    """Return the layouts of a chart from the narrowest place to the widest.

    The height does not depend on the width of a panel, so one rendering per layout gives it.

    Args:
        spec: the chart's specification, with the ``usermeta`` of `panels.fit`.
        svg: the chart in the layout of its specification, which is not rendered again.
    """
    # Widths at which the layout changes
    panel = spec["usermeta"]["panel"] + spec["usermeta"]["margin"]
    most = spec.get("columns", 1) if "facet" in spec else 1
    legend_columns = spec["config"]["legend"]["columns"]
    bounds = sorted({0, NARROW, *(columns * panel for columns in range(2, most + 1))})

    # Render each layout once
    has_legend = "role-legend" in svg
    heights = {(most, legend_columns if has_legend else None): _size(svg)[1]}
    arranged: list[Layout] = []
    for room in bounds:
        columns = max(1, min(most, room // panel))
        legend = 1 if room < NARROW else legend_columns
        key = (columns, legend if has_legend else None)
        if key not in heights:
            heights[key] = _size(to_svg(_arranged(spec, columns, legend)))[1]
        arranged.append(Layout(room, columns, legend, heights[key]))
    return arranged


def with_layouts(spec: dict[str, Any], svg: str) -> dict[str, Any]:
    """Return a specification that has its `layouts` in its ``usermeta``, from where `charts.js` reads them."""
    arranged = [asdict(layout) for layout in layouts(spec, svg)]
    return {**spec, "usermeta": {**spec["usermeta"], "layouts": arranged}}


def reserved_heights(specs: Mapping[str, dict[str, Any]]) -> str:
    """Return the style rules that keep the height of every chart where scripts run.

    Args:
        specs: specifications of `with_layouts`, by the name of the chart.
    """
    rules: list[str] = []
    for name, spec in specs.items():
        for layout in spec["usermeta"]["layouts"]:
            rule = f"[data-chart={name}] {{ min-height: {layout['height']:g}px; }}"
            # The script rounds the width of the place to whole pixels
            width = layout["room"] - 0.5
            rules.append(f"@container chart (min-width: {width:g}px) {{ {rule} }}" if layout["room"] else rule)
    return "\n".join(["@media screen and (scripting: enabled) {", *rules, "}\n"]) if rules else ""


def _arranged(spec: Mapping[str, Any], columns: int, legend_columns: int) -> dict[str, Any]:
    config = {**spec["config"], "legend": {**spec["config"]["legend"], "columns": legend_columns}}
    return {**spec, **({"columns": columns} if "facet" in spec else {}), "config": config}


def _size(svg: str) -> tuple[float, float]:
    match = _SIZE.match(svg)
    if match is None:
        raise ValueError("the renderer of charts returned an SVG without a width and a height")
    return float(match[1]), float(match[2])
