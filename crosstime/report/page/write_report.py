"""Write the report of a run: one HTML page, its charts and its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crosstime.machine.storage import atomic_path
from crosstime.report.about_models import chart_about_models
from crosstime.report.charts.save_chart import FORMATS, convert_svg
from crosstime.report.charts.vega import specification, to_svg
from crosstime.report.page.draw_charts import draw_charts
from crosstime.report.page.layouts import Picture, picture_of, with_layouts
from crosstime.report.page.render import render
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.write_tables import write_tables


def write_report(report: ReportInput, folder: Path) -> Path:
    """Write ``report.html``, which is self-contained, every chart to ``charts/`` and every table to ``tables/``.

    The page opens offline from disk. Without scripts it shows the charts as pictures; with scripts they are
    interactive. An existing report is replaced. Charts and tables are written first, so that a page is never older
    than the charts and tables next to it.

    Args:
        report: the checked tables.
        folder: folder of the report, created if needed.

    Returns:
        The path of ``report.html``. Charts are written as SVG, PNG and PDF, tables as LaTeX and CSV.

    Raises:
        RunError: when the folder cannot be written to.

    Examples:
        >>> write_report(report, Path("runs/demo"))  # doctest: +SKIP
        PosixPath('runs/demo/report.html')
    """
    # Write the charts in all formats
    specs = {name: specification(chart) for name, chart in draw_charts(report).items()}
    if not report.ordered:
        specs = {name: chart_about_models(spec) for name, spec in specs.items()}
    pictures: dict[str, Picture] = {}
    arranged: dict[str, dict[str, Any]] = {}
    with atomic_path(folder / "charts") as temporary:
        temporary.mkdir()
        for name, spec in specs.items():
            svg = to_svg(spec)
            for suffix in FORMATS:
                (temporary / f"{name}.{suffix}").write_bytes(convert_svg(svg, suffix))
            pictures[name], arranged[name] = picture_of(svg), with_layouts(spec, svg)

    # Write the tables
    with atomic_path(folder / "tables") as temporary:
        temporary.mkdir()
        write_tables(report, temporary)

    # Write the page
    page = folder / "report.html"
    with atomic_path(page) as temporary:
        temporary.write_text(render(report, arranged, pictures), encoding="utf-8")
    return page
