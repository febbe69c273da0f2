"""How every chart looks: one palette and one altair theme, for the page, for notebooks and for print."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

NAME = "crosstime"
"""The theme's name in altair: ``altair.theme.enable("crosstime")`` in a notebook."""

PALETTE = ("#1b56d6", "#c74e0d", "#0f7f5f", "#b0359f", "#1e161c", "#6a1c00")
"""Six colours: each at least 4.5:1 on white, so that a label may wear the colour of its line, and any two
of them told apart under deuteranopia and protanopia (CIELAB distance at least 25, Machado et al. 2009)."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Shape of the n-th group, so that no chart rests on colour alone."""

INK, MUTED, FAINT, GRID = "#1b1f24", "#57606a", "#b6bec7", "#e6e9ed"
"""Text, secondary text (6:1 on white), lines that are context, and grid lines."""

REGION = {"absent": "#ffffff", "shared": "#f4f5f7", "specific": "#e9effc"}
"""Background of the three classes of a relative value."""

FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"


def colours(names: Sequence[str]) -> dict[str, list[str]]:
    """Domain and range of a colour scale: the palette in order, from its start again when it is used up.

    Examples:
        >>> colours(["step64", "main"])["range"]
        ['#1b56d6', '#c74e0d']
    """
    return {"domain": list(names), "range": [PALETTE[i % len(PALETTE)] for i in range(len(names))]}


def shapes(names: Sequence[str]) -> dict[str, list[str]]:
    """Domain and range of a shape scale, in step with `colours` until both run out.

    The shapes move on by one with every round of the palette, so that 36 groups differ.
    """
    n = len(SHAPES)
    return {"domain": list(names), "range": [SHAPES[(i + i // n) % n] for i in range(len(names))]}


@alt.theme.register(NAME, enable=False)
def theme() -> alt.theme.ThemeConfig:
    """Return the theme as altair wants it; use it by name, ``with altair.theme.enable("crosstime"):``."""
    return alt.theme.ThemeConfig(
        config={
            "font": FONT,
            "background": "white",
            "padding": 6,
            "view": {"stroke": None},
            "axis": {
                "labelColor": MUTED,
                "titleColor": INK,
                "labelFontSize": 11,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "titlePadding": 8,
                "domainColor": FAINT,
                "tickColor": FAINT,
                "gridColor": GRID,
                "labelLimit": 260,
            },
            "axisX": {"grid": False},
            "legend": {
                "orient": "top",
                "columns": 2,
                "title": None,
                "labelColor": INK,
                "labelFontSize": 12,
                "labelLimit": 420,
                "symbolSize": 70,
                "symbolOpacity": 1,
                "symbolStrokeWidth": 2,
                "offset": 10,
            },
            "header": {
                "title": None,
                "labelColor": INK,
                "labelFontSize": 12,
                "labelFontWeight": "bold",
                "labelLimit": 420,
                "labelPadding": 8,
            },
            "title": {
                "anchor": "start",
                "color": MUTED,
                "fontSize": 12,
                "fontWeight": "normal",
                "offset": 10,
            },
            "line": {"strokeWidth": 2},
            "text": {"font": FONT, "fontSize": 11, "color": INK},
            "facet": {"spacing": 44},
        }
    )
