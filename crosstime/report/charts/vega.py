"""Render charts through vl-convert, which needs no browser and no network, and embed them in the page."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import altair as alt
import vl_convert

from crosstime.report.charts import theme

LARGE_PICTURE = 150_000
"""Characters of SVG above which the page shows a chart as PNG until it becomes interactive."""

_DIGITS = 6
_VERSION = "_".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart in the report's theme.

    The data are part of the specification, rounded to six significant digits to keep the page small.
    """
    with alt.theme.enable(theme.NAME), alt.data_transformers.disable_max_rows():
        return rounded(chart.to_dict())


def rounded(spec: dict[str, Any]) -> dict[str, Any]:
    """Round the numbers of a specification's data in place, to keep pages small."""
    for rows in spec.get("datasets", {}).values():
        for row in rows:
            row.update({name: _rounded(value) for name, value in row.items() if isinstance(value, float)})
    return spec


def to_svg(spec: dict[str, Any]) -> str:
    """Render a specification as SVG."""
    # An accessible description of every mark would double the size; the page describes the whole chart instead.
    without_aria = {**spec, "config": {**spec.get("config", {}), "aria": False}}
    return vl_convert.vegalite_to_svg(without_aria, vl_version=_VERSION, allowed_base_urls=[])


def to_png(svg: str, scale: float = 2.0) -> bytes:
    """Render SVG as PNG, by default at twice the resolution of a screen."""
    return vl_convert.svg_to_png(svg, scale=scale)


def to_pdf(svg: str) -> bytes:
    """Convert SVG to PDF."""
    return vl_convert.svg_to_pdf(svg)


def data_uri(svg: str) -> str:
    """Return a data URI of an SVG picture, or of the same picture as PNG if the SVG is large.

    Examples:
        >>> data_uri("<svg/>")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    kind, data = ("svg+xml", svg.encode()) if len(svg) < LARGE_PICTURE else ("png", to_png(svg, 1.0))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def javascript(name: str = "vegaEmbed") -> str:
    """Return vega, vega-lite and vega-embed as one script that sets ``window.NAME`` to vega-embed (0.9 MB)."""
    return vl_convert.javascript_bundle(f"window.{name} = vegaEmbed;", vl_version=_VERSION)


def script_json(value: Any) -> str:
    """Return JSON that can be embedded in a script element, whatever strings it contains.

    Examples:
        >>> script_json("</script>")
        '"\\\\u003c/script>"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
