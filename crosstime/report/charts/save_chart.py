"""Save a chart as SVG, PNG or PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import altair as alt

from crosstime.errors import ReportError
from crosstime.machine.storage import atomic_path
from crosstime.report.charts.vega import specification, to_pdf, to_png, to_svg

FORMATS = ("svg", "png", "pdf")


def save_chart(chart: alt.TopLevelMixin, path: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Save a chart in the report's theme, in one file per format; each file is written atomically.

    Args:
        chart: any altair chart, such as those of `crosstime.report.charts`.
        path: folder and file name without a suffix; the suffix of each format is appended.
        formats: any of svg, png (twice the resolution of a screen) and pdf.

    Returns:
        The paths of the files, in the order of `formats`.

    Raises:
        ReportError: when a format is not one of `FORMATS`.
        RunError: when a file cannot be written.

    Examples:
        >>> save_chart(accuracy_chart(accuracy), Path("figures/accuracy"))  # doctest: +SKIP
        [PosixPath('figures/accuracy.svg'), PosixPath('figures/accuracy.png'), PosixPath('figures/accuracy.pdf')]
    """
    for name in formats:
        if name not in FORMATS:
            raise ReportError(f"a chart is saved as one of {', '.join(FORMATS)}, not {name!r}")

    svg = to_svg(specification(chart))
    paths = [path.with_name(f"{path.name}.{name}") for name in formats]
    for target, name in zip(paths, formats, strict=True):
        with atomic_path(target) as temporary:
            temporary.write_bytes(convert_svg(svg, name))
    return paths


def convert_svg(svg: str, name: str) -> bytes:
    """Return the content of a file in the format `name`, one of `FORMATS`, from SVG."""
    if name == "png":
        return to_png(svg)
    return to_pdf(svg) if name == "pdf" else svg.encode()
