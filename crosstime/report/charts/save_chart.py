"""Charts to files and to the page, through vl-convert: no browser and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from crosstime.errors import ReportError
from crosstime.machine.storage import atomic_path
from crosstime.report.charts import theme

FORMATS = ("svg", "png", "pdf")
LARGE_PICTURE = 150_000
"""Bytes of SVG above which a page shows a chart as PNG until it is interactive."""

_DIGITS = 6
_VERSION = "_".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart's Vega-Lite specification in the report's theme, its data inlined with six digits a number."""
    with alt.theme.enable(theme.NAME), alt.data_transformers.disable_max_rows():
        spec = chart.to_dict()
    for rows in spec.get("datasets", {}).values():
        for row in rows:
            row.update({name: _short(value) for name, value in row.items() if isinstance(value, float)})
    return spec


def save_chart(chart: alt.TopLevelMixin, path: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Save a chart in the report's theme as ``path`` with each format's suffix, every file whole or not at all.

    Args:
        chart: any altair chart, such as those of `crosstime.report`.
        path: folder and name, without a suffix.
        formats: of svg, png (twice a screen's resolution) and pdf.

    Raises:
        ReportError: another format.
        RunError: a file cannot be written.

    Examples:
        >>> save_chart(accuracy_chart(accuracy), Path("figures/accuracy"))
        [PosixPath('figures/accuracy.svg'), PosixPath('figures/accuracy.png'), PosixPath('figures/accuracy.pdf')]
    """
    for name in formats:
        if name not in FORMATS:
            raise ReportError(f"a chart is saved as one of {', '.join(FORMATS)}, not {name!r}")
    drawn, written = svg(specification(chart)), []
    for name in formats:
        written.append(path.with_name(f"{path.name}.{name}"))
        with atomic_path(written[-1]) as temporary:
            temporary.write_bytes(converted(drawn, name))
    return written


def converted(drawn: str, name: str) -> bytes:
    """Turn SVG text into the content of a file of one of the `FORMATS`."""
    if name == "png":
        return png(drawn)
    return vl_convert.svg_to_pdf(drawn) if name == "pdf" else drawn.encode()


def svg(spec: dict[str, Any]) -> str:
    """Draw a specification as SVG text."""
    # A description of every mark would double the file; the page describes the picture as a whole.
    quiet = {**spec, "config": {**spec.get("config", {}), "aria": False}}
    return vl_convert.vegalite_to_svg(quiet, vl_version=_VERSION, allowed_base_urls=[])


def png(drawn: str, scale: float = 2.0) -> bytes:
    """Turn SVG text into a PNG, by default at twice the resolution of a screen."""
    return vl_convert.svg_to_png(drawn, scale=scale)


def picture(drawn: str) -> str:
    """Return a data URI of SVG text, or of a PNG where that is large.

    Examples:
        >>> picture("<svg/>")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    kind, data = ("svg+xml", drawn.encode()) if len(drawn) < LARGE_PICTURE else ("png", png(drawn, 1.0))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def javascript() -> str:
    """Return vega, vega-lite and vega-embed as one script that sets ``window.vegaEmbed`` (0.9 MB)."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VERSION)


def json_text(value: Any) -> str:
    """Return JSON that may stand inside a script element, whatever strings it holds.

    Examples:
        >>> json_text("</script>")
        '"\\\\u003c/script>"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
