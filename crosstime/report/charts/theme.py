"""The look of all charts: one palette and one altair theme, for the page, for notebooks and for print."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

NAME = "crosstime"
"""Name of the theme in altair: ``altair.theme.enable("crosstime")`` applies it to charts of others."""

PALETTE = ("#1b56d6", "#c74e0d", "#0f7f5f", "#b0359f", "#1e161c", "#6a1c00")
"""Six colours with a contrast of at least 4.5:1 on white, so that a label can have the colour of its line.

Any two differ by a CIELAB distance of at least 25 for readers with deuteranopia or protanopia as well, simulated after
Machado, Oliveira and Fernandes (2009).
"""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Point shapes of the groups, so that no chart relies on colour alone."""

INK, MUTED, FAINT, GRID = "#1b1f24", "#57606a", "#b6bec7", "#e6e9ed"
"""Text, secondary text (6:1 on white), lines that give context, and grid lines."""

GREYS = (FAINT, "#868e96")
"""Fills of groups that stay in the background."""

REGION = {"absent": "#ffffff", "shared": "#f4f5f7", "specific": "#e9effc"}
"""Background colour of the three classes of a relative value."""

FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"


def colour_scale(names: Sequence[str], faint: Sequence[str] = ()) -> alt.Scale:
    """Assign the colours of the palette to `names` in order, cyclically, and greys to up to two in `faint`.

    Examples:
        >>> colour_scale(["step64", "main"]).range
        ['#1b56d6', '#c74e0d']
    """
    coloured = [name for name in names if name not in faint]
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(coloured)}
    colours |= dict(zip(faint, GREYS, strict=False))
    return alt.Scale(domain=list(names), range=[colours[name] for name in names])


def shape_scale(names: Sequence[str]) -> alt.Scale:
    """Assign point shapes to `names`, so that together with `colour_scale` 36 groups can be told apart.

    The shapes are shifted by one with every repetition of the palette.
    """
    n = len(SHAPES)
    return alt.Scale(domain=list(names), range=[SHAPES[(i + i // n) % n] for i in range(len(names))])


@alt.theme.register(NAME, enable=False)
def theme() -> alt.theme.ThemeConfig:
    """Return the configuration that altair registers under `NAME`."""
    return alt.theme.ThemeConfig(
        config={
            "font": FONT,
            "background": "white",
            "padding": 6,
            "view": {"stroke": None},
            # Axes
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
            # Legend
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
            # Headers of panels
            "header": {
                "title": None,
                "labelColor": INK,
                "labelFontSize": 12,
                "labelFontWeight": "bold",
                "labelLimit": 420,
                "labelPadding": 8,
            },
            # Titles and marks
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
