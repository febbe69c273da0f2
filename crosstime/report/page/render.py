"""Render the page of a report as one HTML document."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from crosstime.report.charts.vega import javascript, script_json
from crosstime.report.page.browser_data import browser_data
from crosstime.report.page.figures import Pictures
from crosstime.report.page.layouts import reserved_heights
from crosstime.report.page.markup import Markup, element, inline, join
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.sections import main_figure, sections

SCRIPTS = ("elements", "tables", "charts", "cards", "annotations", "browser", "page")
"""The scripts of the page, each after those it depends on."""

PACKED_FROM = 1 << 20
"""Characters of feature data from which on they are compressed; below, they can be read in the page's source."""


def render(report: ReportInput, specs: Mapping[str, dict[str, Any]], pictures: Pictures) -> str:
    """Return the whole page as HTML.

    The content security policy of the page allows nothing to be loaded, and no script except the page's own, which are
    identified by their hashes. Text of a data set could therefore not run even if it were not escaped.

    Args:
        report: the checked tables.
        specs: Vega-Lite specification of each chart with its layouts, by name.
        pictures: the same charts as pictures, which stand on the page until they are drawn.
    """
    # Read the style sheet and the scripts
    assets = resources.files("crosstime.report.page")
    style = (assets / "style.css").read_text(encoding="utf-8") + reserved_heights(specs)
    code = "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = [javascript()] if specs else []
    scripts.append(f'"use strict";\n(() => {{\n{code}}})();\n')

    # Assemble the sections and the navigation
    parts = sections(report, pictures)
    links = [element("li", element("a", part.title, href=f"#{part.anchor}")) for part in parts]
    header = element(
        "header",
        element(
            "div",
            element(
                "div",
                element("h1", report.title),
                element("p", report.summary, class_="summary"),
            ),
            main_figure(report, pictures),
            class_="opening",
        ),
        element("ul", [element("li", finding) for finding in report.findings], class_="findings")
        if report.findings
        else None,
    )
    navigation = element("nav", element("ul", links), aria_label="Sections")

    # Assemble the page, with the data of charts and features as JSON
    body = element(
        "body",
        element("a", "Skip to the findings", href="#overview", class_="skip"),
        header,
        navigation,
        element("main", [part.markup for part in parts]),
        inline("script", script_json(dict(specs)), type="application/json", id="charts"),
        _feature_data(script_json(browser_data(report))),
        [inline("script", script) for script in scripts],
    )
    html = element("html", _head(report.title, style, scripts), body, lang="en")
    return join(Markup("<!doctype html>\n"), html) + "\n"


def _head(title: str, style: str, scripts: Sequence[str]) -> Markup:
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        inline("style", style),
    )


def _feature_data(text: str) -> Markup:
    """Return the data of the features as JSON or, if they are long, as base64 of gzip; `page.js` reads both."""
    if len(text) < PACKED_FROM:
        return inline("script", text, type="application/json", id="feature-data")
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()
    return inline("script", packed, type="application/gzip", id="feature-data")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
