"""Add the descriptions that people wrote about features to the tooltips of a chart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from crosstime.errors import ReportError

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart, alt.FacetChart)

TOOLTIP = {"field": "description", "type": "nominal", "title": "description"}


def describe(chart: Chart, annotations: pd.DataFrame) -> Chart:
    """Return the chart with the description of each feature in its tooltips, empty for features without one.

    Args:
        chart: a chart that has a point or a line for each feature.
        annotations: feature and description, as `crosstime.features.annotation.read_annotations` returns them.

    Raises:
        ReportError: when the annotations lack a column, or the chart has no features or no tooltips.

    Examples:
        >>> describe(effects_chart(table, ["step64", "main"]), read_annotations(path, table.feature))  # doctest: +SKIP
    """
    missing = {"feature", "description"} - set(annotations)
    if missing:
        raise ReportError(f"annotations lack the column {min(missing)!r}")
    descriptions = dict(zip(annotations["feature"].astype(int), annotations["description"].fillna(""), strict=True))

    # Find the rows and the tooltips of features in the specification
    with alt.data_transformers.disable_max_rows():
        spec = chart.to_dict()
    rows = [row for dataset in spec.get("datasets", {}).values() for row in dataset if "feature" in row]
    tooltips = [tooltip for tooltip in _tooltips(spec) if any(field.get("field") == "name" for field in tooltip)]
    if not rows or not tooltips:
        raise ReportError("this chart has no features that a description could be given of")

    # Add the descriptions to both
    for row in rows:
        row["description"] = descriptions.get(int(row["feature"]), "")
    for tooltip in tooltips:
        tooltip.append(dict(TOOLTIP))
    return type(chart).from_dict(spec)


def _tooltips(part: Any) -> Iterator[list[dict[str, Any]]]:
    """Iterate over all tooltips with several fields in a part of a specification."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "tooltip" and isinstance(value, list):
                yield value
            elif name != "datasets":
                yield from _tooltips(value)
    elif isinstance(part, list):
        for value in part:
            yield from _tooltips(value)
