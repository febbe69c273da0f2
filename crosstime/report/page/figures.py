"""Charts on the page, and the sentences that stand in their place."""

from __future__ import annotations

from collections.abc import Mapping

from crosstime.report.page.layouts import Picture
from crosstime.report.page.markup import Markup, element

Pictures = Mapping[str, Picture]
"""Picture of each chart, by name; a chart that had nothing to draw is absent."""


def remark(sentence: str) -> Markup:
    """Return a sentence in a muted colour, such as that there is nothing to show."""
    return element("p", sentence, class_="none")


def figure(name: str, pictures: Pictures, caption: str, otherwise: str) -> Markup:
    """Return a chart as a picture, which `charts.js` makes interactive, or the sentence `otherwise` without it."""
    if name not in pictures:
        return remark(otherwise)
    uri, width, height = pictures[name]
    # With its size the browser keeps its place until it is loaded
    picture = element("img", src=uri, alt=caption, width=f"{width:g}", height=f"{height:g}", loading="lazy")
    return element(
        "figure",
        element("div", picture, class_="chart", data_chart=name),
        element("figcaption", caption),
    )


def optional_figure(name: str, pictures: Pictures, caption: str) -> Markup | None:
    """Return a chart as `figure` does, or nothing if there is none."""
    return figure(name, pictures, caption, "") if name in pictures else None
