"""What people wrote of features, in the tooltips of any chart of features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from crosstime.errors import ReportError

Chart = TypeVar("Chart", bound=alt.TopLevelMixin)
TOOLTIP = {"field": "description", "type": "nominal", "title": "description"}


def described(chart: Chart, annotations: pd.DataFrame) -> Chart:
    """Return a chart with each feature's description in its tooltips, empty for features without one.

    Args:
        chart: any of the charts that have a point or a line for each feature.
        annotations: feature and description, as `crosstime.read_annotations` gives them.

    Raises:
        ReportError: the annotations lack a column, or the chart has no features or no tooltips.

    Examples:
        >>> described(effects_chart(table, ["step64", "main"]), read_annotations(path, table.feature))
    """
    missing = {"feature", "description"} - set(annotations)
    if missing:
        raise ReportError(f"annotations lack the column {min(missing)!r}")
    written = dict(zip(annotations["feature"].astype(int), annotations["description"].fillna(""), strict=True))
    with alt.data_transformers.disable_max_rows():
        spec = chart.to_dict()
    rows = [row for listed in spec.get("datasets", {}).values() for row in listed if "feature" in row]
    tooltips = [tooltip for tooltip in _tooltips(spec) if any(field.get("field") == "name" for field in tooltip)]
    if not rows or not tooltips:
        raise ReportError("this chart has no features that a description could be given of")
    for row in rows:
        row["description"] = written.get(int(row["feature"]), "")
    for tooltip in tooltips:
        tooltip.append(dict(TOOLTIP))
    return type(chart).from_dict(spec)


def _tooltips(part: Any) -> Iterator[list[dict[str, Any]]]:
    """Every tooltip of several fields, wherever it is in a specification."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "tooltip" and isinstance(value, list):
                yield value
            elif name != "datasets":
                yield from _tooltips(value)
    elif isinstance(part, list):
        for value in part:
            yield from _tooltips(value)
