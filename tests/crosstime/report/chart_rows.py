"""The rows that a chart draws."""

from __future__ import annotations

import altair as alt
import pandas as pd

from crosstime.report.charts.vega import specification


def rows(chart: alt.TopLevelMixin, *columns: str) -> pd.DataFrame:
    """The rows of the chart's data that have all of `columns`, as Vega-Lite receives them."""
    datasets = specification(chart)["datasets"].values()
    return pd.DataFrame([row for data in datasets for row in data if set(columns) <= set(row)])
