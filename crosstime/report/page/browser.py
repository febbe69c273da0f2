"""The frame of the feature browser: its controls and empty places, which `browser.js` fills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crosstime.report.columns import fact_title
from crosstime.report.page.features import feature_table, selected
from crosstime.report.page.markup import Child, Markup, element

if TYPE_CHECKING:
    from crosstime.report.page.inputs import ReportInput

FEWEST, MOST = 2, 12
"""A column of facts is a filter when it holds that many different texts."""


def feature_browser(report: ReportInput) -> list[Child]:
    """Return the browser's controls, list and card, hidden until its script runs, and a table for pages without."""
    tables = (report.effects, report.temporal, report.classes)
    features = selected(*tables, contexts=report.contexts)
    if not features:
        return [element("p", "No feature was selected.", class_="none")]
    listed = element(
        "div",
        element(
            "ul",
            id="feature-list",
            role="listbox",
            tabindex="0",
            aria_label="Features",
            aria_describedby="browser-keys",
        ),
        element("div", class_="shown", aria_live="off"),
        class_="columns",
    )
    browser = element("div", _controls(report), listed, id="browser", hidden=True)
    return [browser, element("noscript", feature_table(*tables, report.ablation, report.compared))]


def _controls(report: ReportInput) -> Markup:
    tasks = list(dict.fromkeys([*report.effects["task"], *report.temporal["task"], *report.classes["task"]]))
    languages = [language for language in (report.languages.get(task, "") for task in tasks) if language]
    revisions = {revision for contexts in report.contexts.values() for one in contexts for revision in one.effects}
    shades = [("activation", "activation")]
    shades += [(revision, f"effect at {revision}") for revision in report.compared if revision in revisions]
    classes = report.classes
    return element(
        "form",
        element(
            "label",
            "Find ",
            element("input", type="search", name="text", placeholder="f123, a class, a word", size="20"),
        ),
        _choice("sort", "Sort by", []),
        element("button", "ascending", type="button", name="ascending", aria_pressed="false"),
        _filter("task", "Task", tasks, shown=len(tasks) > 1),
        _filter("language", "Language", languages, shown=len(set(languages)) > 1),
        _filter("by_ie", "Class by RelIE", classes["class_ie"]),
        _filter("by_dec", "by RelDec", classes["class_dec"]),
        _choice("shade", "Shade tokens by", shades, shown=len(shades) > 1),
        element("output", "", aria_live="polite"),
        _fact_filters(report),
        element(
            "p",
            "Keys: / to search, j and k or the arrow keys of the list for the next and the previous feature.",
            id="browser-keys",
            class_="keys",
        ),
        element(
            "div",
            element("button", "Export annotations (CSV)", type="button", name="export"),
            element("label", "Read annotations ", element("input", type="file", name="file", accept=".csv,text/csv")),
            element("output", "", name="kept"),
            class_="notes",
        ),
        class_="filters",
        aria_label="Find, sort and filter features",
    )


def _fact_filters(report: ReportInput) -> Markup | None:
    made = []
    for place, name in enumerate(name for name in report.facts.columns if name != "feature"):
        column = report.facts[name]
        texts = [value for value in column if isinstance(value, str) and value]
        if FEWEST <= len(set(texts)) <= MOST:
            made.append(_filter(f"fact-{place}", fact_title(name), texts, data_fact=str(place)))
    # Folded away: they would push the list off a small screen.
    return element("details", element("summary", "More filters"), element("div", made), class_="more") if made else None


def _filter(
    name: str, title: str, values: Iterable[str], *, shown: bool = True, data_fact: str | None = None
) -> Markup:
    entries = [("", "all"), *((value, value) for value in sorted({value for value in values if value}))]
    return _choice(name, title, entries, shown=shown, data_fact=data_fact)


def _choice(
    name: str, title: str, entries: Iterable[tuple[str, str]], *, shown: bool = True, data_fact: str | None = None
) -> Markup:
    options = [element("option", text, value=value) for value, text in entries]
    # A choice of one is no choice, but the script reads its value.
    return element("label", f"{title} ", element("select", options, name=name, data_fact=data_fact), hidden=not shown)
