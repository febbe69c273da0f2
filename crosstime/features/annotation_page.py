"""The page that shows an annotator what features fire on: a single file without scripts, read next to the sheet."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from crosstime.report.page.context import ROWS, Context
from crosstime.report.page.markup import Markup, element, inline, join
from crosstime.report.page.visible_parts import visible_parts

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; border-top: 1px solid #ccc; padding-top: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; color: #555; margin: 0 0 .5rem; }
dd { margin: 0; } li { margin: .3rem 0; overflow-wrap: anywhere; }
.from { color: #666; font-size: .85em; } .token { white-space: pre-wrap; border-radius: 2px; }
.peak { text-decoration: underline; text-underline-offset: 3px; } .sign { color: #777; }
"""


def annotation_page(contexts: Mapping[int, Sequence[Context]], facts: pd.DataFrame | None = None, *, title: str) -> str:
    """Make an HTML page of features with their facts and contexts; the darker a token, the stronger the activation.

    Args:
        contexts: for each feature the contexts on which it fires most.
        facts: a table with a column feature and any other columns; cells that are not empty are shown.
        title: of the page.

    Examples:
        >>> page = annotation_page({3: [Context("mine", ("a", " b"), (0.0, 2.0))]}, title="Mine")
        >>> "feature 3" in page
        True
    """
    facts_of = {} if facts is None else {int(row["feature"]): row for row in facts.to_dict("records")}

    # One section for each feature
    body = [element("h1", title), element("p", f"{len(contexts)} features. Write what you see into annotations.csv.")]
    for feature, feature_contexts in contexts.items():
        heading = element("h2", f"feature {feature}", id=f"f{feature}")
        body += [heading, join(_facts(facts_of.get(feature, {})))]
        items = [_context(context) for context in feature_contexts]
        body.append(element("ol", items) if items else element("p", "It fires on none of the texts."))

    # The whole page
    charset, style = element("meta", charset="utf-8"), inline("style", _STYLE)
    head = element("head", charset, element("title", title), style)
    return join(Markup("<!doctype html>\n"), element("html", head, element("body", body), lang="en"))


def _facts(row: Mapping[Hashable, Any]) -> Markup | None:
    """A list of the facts that are not empty."""
    items = [
        join(element("dt", str(name).replace("_", " ")), element("dd", _fact_text(value)))
        for name, value in row.items()
        if name != "feature" and not (pd.isna(value) or value == "")
    ]
    return element("dl", items) if items else None


def _fact_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _context(context: Context) -> Markup:
    """A list item with the tokens of a context, its answers and where it is from."""
    peak = context.peak
    tokens: list[Markup | str] = [
        _token(token, activation / peak if peak > 0 and math.isfinite(activation) else 0.0)
        for token, activation in zip(context.tokens, context.activations, strict=True)
    ]
    if context.source == ROWS:
        # Labels of rows are no text that runs on
        tokens = [part for token in tokens for part in (token, " · ")][:-1]
    answers = f" {context.right.strip()} / {context.wrong.strip()}" if context.right or context.wrong else ""
    source = " · ".join(part for part in (context.task, context.label, f"at most {peak:.3g}") if part)
    return element("li", tokens, element("i", answers), " ", element("span", source, class_="from"))


def _token(token: str, share: float) -> Markup:
    """A token on a background whose opacity is the activation's share of the peak."""
    # Texts and signs alternate, a text first
    parts = [
        element("span", part, class_="sign") if index % 2 else join(part)
        for index, part in enumerate(visible_parts(token))
    ]
    share = min(1.0, max(0.0, share))
    return element(
        "span",
        parts,
        class_="token peak" if share == 1 else "token",
        style=f"background: rgba(230, 120, 0, {0.75 * share:.2f})" if share > 0 else None,
    )
