"""The page of one run: what was compared, what was found, and every number behind it, in one HTML file."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt

from crosstime.errors import ReportError
from crosstime.machine.storage import atomic_path
from crosstime.report.charts import ablation as ablation_charts
from crosstime.report.charts import decoders as through_time_charts
from crosstime.report.charts import effects as charts
from crosstime.report.charts import evolution as evolution_charts
from crosstime.report.charts import save_chart as drawing
from crosstime.report.charts import shares as share_charts
from crosstime.report.charts import survey as survey_charts
from crosstime.report.charts.effect_lines import coloured
from crosstime.report.page.browser_data import browser_data
from crosstime.report.page.features import drawn
from crosstime.report.page.inputs import ReportInput
from crosstime.report.page.markup import Markup, element, inline, join
from crosstime.report.page.sections import sections
from crosstime.report.page.table_files import write_tables

SCRIPTS = ("elements", "tables", "charts", "cards", "annotations", "browser", "page")
"""The page's own scripts in the order in which they need each other."""

PACKED_FROM = 1 << 20
"""Characters of the features' data from which on they are packed; below, they can be read in the page's source."""


def write_report(report: ReportInput, folder: Path) -> Path:
    """Write ``report.html``, which needs nothing beside it, every chart to ``charts/``, every table to ``tables/``.

    The page opens offline from disk. Its content security policy lets it load nothing, and run no script
    but its own two, by their hash: text of a data set could not act even if it were not escaped. Charts are
    there as pictures without scripts and become interactive with them. An older report is replaced; charts
    and tables first, so that a page never stands beside older ones than its own.

    Args:
        report: what to show.
        folder: where to; it is made.

    Returns:
        The path of ``report.html``. Charts are SVG, PNG and PDF; tables are LaTeX and CSV.

    Raises:
        RunError: when the folder cannot be written to.

    Examples:
        >>> write_report(report, Path("runs/demo"))
        PosixPath('runs/demo/report.html')
    """
    specs = {name: drawing.specification(chart) for name, chart in draw(report).items()}
    pictures = {}
    with atomic_path(folder / "charts") as temporary:
        temporary.mkdir()
        for name, spec in specs.items():
            drawn_as = drawing.svg(spec)
            for kind in drawing.FORMATS:
                (temporary / f"{name}.{kind}").write_bytes(drawing.converted(drawn_as, kind))
            pictures[name] = drawing.picture(drawn_as)
    with atomic_path(folder / "tables") as temporary:
        temporary.mkdir()
        write_tables(report, temporary)
    page = folder / "report.html"
    with atomic_path(page) as temporary:
        temporary.write_text(render(report, specs, pictures), encoding="utf-8")
    return page


def draw(report: ReportInput) -> dict[str, alt.TopLevelMixin]:
    """Return the report's charts by name; one whose table holds nothing to draw is left out."""
    compared = report.compared
    effects, temporal = drawn(report.effects, report), drawn(report.temporal, report)
    makers: dict[str, Callable[[], alt.TopLevelMixin]] = {
        "accuracy": partial(charts.accuracy_chart, report.accuracy, compared),
        "similarity": partial(survey_charts.similarity_chart, report.similarity),
        "training": partial(charts.training_chart, report.training),
        "effects": partial(charts.effects_chart, effects, compared),
        "shares": partial(share_charts.shares_chart, report.temporal, compared),
        "ternary": partial(share_charts.ternary_chart, temporal, compared),
        "temporal": partial(charts.temporal_chart, temporal, compared),
        "norms": partial(through_time_charts.norms_chart, temporal, compared, coloured=coloured(effects)),
        "rotation": partial(survey_charts.similarity_chart, report.rotation),
        "decoder-steps": partial(
            evolution_charts.decoder_steps_chart, report.rotation_steps, report.dimensionality, compared
        ),
        "lives": partial(evolution_charts.life_cycles_chart, report.life_cycles),
        "ablation": partial(ablation_charts.ablation_chart, report.ablation),
        "faithfulness": partial(ablation_charts.faithfulness_chart, report.faithfulness),
    }
    made: dict[str, alt.TopLevelMixin] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except ReportError:
            # The tables were checked: all that a chart can still say is that there is nothing to draw.
            continue
    return made


def render(report: ReportInput, specs: Mapping[str, dict[str, Any]], pictures: Mapping[str, str]) -> str:
    """Return the whole page as HTML.

    Args:
        report: what to show.
        specs: chart name -> Vega-Lite specification.
        pictures: chart name -> data URI of the same chart, for a page without scripts.
    """
    assets = resources.files("crosstime.report.page")
    style = (assets / "style.css").read_text(encoding="utf-8")
    own = "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = [drawing.javascript()] if specs else []
    scripts.append(f'"use strict";\n(() => {{\n{own}}})();\n')
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", report.title),
        inline("style", style),
    )
    parts = sections(report, pictures)
    links = [element("li", element("a", part.title, href=f"#{part.anchor}")) for part in parts]
    body = element(
        "body",
        element("a", "Skip to the findings", href="#overview", class_="skip"),
        element(
            "header",
            element("h1", report.title),
            element("p", report.summary, class_="summary"),
            [element("p", finding) for finding in report.findings],
            element("nav", element("ul", links), aria_label="Sections"),
        ),
        element("main", [part.markup for part in parts]),
        inline("script", drawing.json_text(dict(specs)), type="application/json", id="charts"),
        _features(drawing.json_text(browser_data(report))),
        [inline("script", script) for script in scripts],
    )
    return join(Markup("<!doctype html>\n"), element("html", head, body, lang="en")) + "\n"


def _features(text: str) -> Markup:
    """The data of the features as JSON, or as gzip in base64 where that is long; `page.js` reads both."""
    if len(text) < PACKED_FROM:
        return inline("script", text, type="application/json", id="feature-data")
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()
    return inline("script", packed, type="application/gzip", id="feature-data")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
