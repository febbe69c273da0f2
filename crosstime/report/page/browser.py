"""The frame of the feature browser: its controls and the empty elements that `browser.js` fills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crosstime.report.columns import fact_title
from crosstime.report.page.features import feature_table, selected_features
from crosstime.report.page.markup import Child, Markup, element

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

FEWEST, MOST = 2, 12
"""A column of facts gets a filter if its number of distinct texts is in this range."""

KEYS = "Keys: / to search, j and k or the arrow keys of the list for the next and the previous feature."


def feature_browser(report: ReportInput) -> list[Child]:
    """Return the controls, the list and the card, hidden until the script runs, and a table for pages without scripts.

    Args:
        report: the checked tables.
    """
    tables = (report.effects, report.temporal, report.classes, report.decoders)
    features = selected_features(*tables, contexts=report.contexts)
    if not features:
        return [element("p", "No feature was selected.", class_="none")]

    feature_list = element(
        "ul",
        id="feature-list",
        role="listbox",
        tabindex="0",
        aria_label="Features",
        aria_describedby="browser-keys",
    )
    card = element("div", class_="shown", aria_live="off")
    columns = element("div", feature_list, card, class_="columns")
    browser = element("div", _controls(report), columns, id="browser", hidden=True)
    # Without scripts, the strongest rows are in a section of their own
    return [browser, None if report.rows else element("noscript", feature_table(report))]


def _controls(report: ReportInput) -> Markup:
    # Options of the filters
    tasks = list(dict.fromkeys([*report.effects["task"], *report.temporal["task"], *report.classes["task"]]))
    languages = [language for language in (report.languages.get(task, "") for task in tasks) if language]
    measured = {
        revision for contexts in report.contexts.values() for context in contexts for revision in context.effects
    }
    shades = [("activation", "activation")]
    shades += [(revision, f"effect at {revision}") for revision in report.compared if revision in measured]

    # Controls for annotations
    annotations = element(
        "div",
        element("button", "Export annotations (CSV)", type="button", name="export"),
        element("label", "Read annotations ", element("input", type="file", name="file", accept=".csv,text/csv")),
        element("output", "", name="kept"),
        class_="notes",
    )

    # Controls for the list; classes are by effects, which rows of parameters do not have
    shows_classes = not report.rows
    search = element("input", type="search", name="text", placeholder="f123, a class, a word", size="20")
    listing: list[Child] = [
        element("label", "Find ", search),
        _choice("sort", "Sort by", []),
        element("button", "ascending", type="button", name="ascending", aria_pressed="false"),
        _filter("task", "Task", tasks, shown=len(tasks) > 1),
        _filter("language", "Language", languages, shown=len(set(languages)) > 1),
        _filter("by_ie", "Class by RelIE", report.classes["class_ie"], shown=shows_classes),
        _filter("by_dec", "by RelDec", report.classes["class_dec"], shown=shows_classes),
        *_replication_filter(report),
        _choice("shade", "Shade tokens by", shades, shown=len(shades) > 1),
        # Number of features that match
        element("output", "", aria_live="polite"),
        _fact_filters(report),
    ]
    return element(
        "form",
        *listing,
        element("p", KEYS, id="browser-keys", class_="keys"),
        annotations,
        class_="filters",
        aria_label="Find, sort and filter features",
    )


REPLICATES = "replicates"
"""The column of facts that says whether most seeds have a feature."""


def _replication_filter(report: ReportInput) -> list[Markup]:
    """Return the filter of features that most seeds have, which is set at first if there are any."""
    if REPLICATES not in report.facts:
        return []
    texts = {value for value in report.facts[REPLICATES] if isinstance(value, str) and value}
    index = list(report.facts.columns.drop("feature")).index(REPLICATES)
    entries = [("yes", "yes"), ("no", "no"), ("", "all")] if "yes" in texts else [("", "all"), ("no", "no")]
    return [_choice(f"fact-{index}", fact_title(REPLICATES), entries, data_fact=str(index))]


def _fact_filters(report: ReportInput) -> Markup | None:
    """Return a filter for each column of facts with few distinct texts, folded so that the list stays in view."""
    filters = []
    for index, name in enumerate(report.facts.columns.drop("feature")):
        if name == REPLICATES:
            continue
        texts = [value for value in report.facts[name] if isinstance(value, str) and value]
        if FEWEST <= len(set(texts)) <= MOST:
            filters.append(_filter(f"fact-{index}", fact_title(name), texts, data_fact=str(index)))
    if not filters:
        return None
    return element("details", element("summary", "More filters"), element("div", filters), class_="more")


def _filter(
    name: str, title: str, values: Iterable[str], *, shown: bool = True, data_fact: str | None = None
) -> Markup:
    """Return a choice of one of the distinct values, or of all."""
    entries = [("", "all"), *((value, value) for value in sorted({value for value in values if value}))]
    return _choice(name, title, entries, shown=shown, data_fact=data_fact)


def _choice(
    name: str, title: str, entries: Iterable[tuple[str, str]], *, shown: bool = True, data_fact: str | None = None
) -> Markup:
    """Return a choice of entries (value, text); if it is not shown, the script still reads its value."""
    options = [element("option", text, value=value) for value, text in entries]
    return element("label", f"{title} ", element("select", options, name=name, data_fact=data_fact), hidden=not shown)
