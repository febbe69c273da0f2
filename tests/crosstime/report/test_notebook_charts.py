"""Charts in a notebook: pictures and scripts in the output itself, one copy of the scripts, the look of the report."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd
import pytest

from crosstime.report.charts import notebook
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.vega import specification


def effects(n_features: int = 3) -> pd.DataFrame:
    rows = [
        {
            "task": "t</script>",
            "feature": i,
            "revision": revision,
            "ie": i + step / 3,
            "low": 0.0,
            "high": 3.0,
        }
        for i in range(n_features)
        for step, revision in enumerate(["step0", "step64", "main"])
    ]
    return pd.DataFrame(rows)


@pytest.fixture(autouse=True)
def new_notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kernel in which no chart has been displayed."""
    monkeypatch.setattr(notebook, "_SCRIPTS", notebook._Scripts())
    with alt.renderers.enable("crosstime"):
        yield


def html(chart: Any) -> str:
    bundle = chart._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return str(data["text/html"])


def embedded(page: str) -> dict[str, Any]:
    return dict(json.loads(re.search(r"const spec = (.*);\n", page)[1]))


def test_a_chart_loads_nothing_and_the_first_one_carries_the_scripts_of_all() -> None:
    first, second = html(effects_chart(effects())), html(effects_chart(effects(5)))
    for page in (first, second):
        assert "cdn.jsdelivr.net" not in page
        markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert re.findall(r"\s(?:src|href)=\"(?!data:)", markup) == []
        assert re.findall(r"<script(?!>)", markup) == []
        assert page.count("<script>") == page.count("</script>")  # text of a task ends no script
    assert first.count("<script>") == 2
    assert "window.crosstimeEmbed=" in first
    assert second.count("<script>") == 1
    assert len(second) < 60_000
    assert 800_000 < len(first) - len(second) < 1_000_000


def test_a_chart_is_a_picture_and_a_specification_that_are_those_of_the_report() -> None:
    chart = effects_chart(effects())
    page, report = html(chart), specification(chart)
    picture = base64.b64decode(re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', page)[1]).decode()
    assert picture.startswith("<svg")
    assert ">f2<" in picture
    assert embedded(page) == report


def test_a_theme_that_the_reader_has_enabled_is_that_of_the_chart() -> None:
    with alt.theme.enable("opaque"):
        config = embedded(html(effects_chart(effects())))["config"]
    assert config["background"] == "white"
    assert "axis" not in config
    with alt.theme.enable("crosstime"):
        assert embedded(html(effects_chart(effects())))["config"] == specification(effects_chart(effects()))["config"]


def test_settings_of_a_single_chart_come_before_those_of_the_theme() -> None:
    chart = effects_chart(effects()).configure_axis(labelFontSize=17)
    config = embedded(html(chart))["config"]
    assert config["axis"]["labelFontSize"] == 17
    assert config["axis"]["titleFontSize"] == 12


@pytest.mark.parametrize(
    ("executions", "carried"),
    [
        # (cell, execution) of each chart, and whether it carries the scripts
        ([("a", "1"), ("a", "1"), ("b", "2")], [True, False, False]),
        ([("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")], [True, False, True, False]),  # the first output is replaced
        ([(None, "1"), (None, "2"), (None, "2")], [True, False, False]),  # nbclient names no cells
        ([(None, None), (None, None)], [True, False]),
    ],
)
def test_the_cell_that_carries_the_scripts_carries_them_again_when_it_runs_again(executions, carried) -> None:
    scripts = notebook._Scripts()
    assert [scripts.are_missing(*execution) for execution in executions] == carried


def test_charts_of_others_are_drawn_by_altair() -> None:
    chart = alt.Chart(effects()).mark_point().encode(x="ie:Q")
    assert "crosstime" not in html(chart)
    assert alt.renderers.active == "crosstime"


def test_a_renderer_that_the_reader_has_chosen_stays() -> None:
    with alt.renderers.enable("mimetype"):
        notebook.enable()
        assert alt.renderers.active == "mimetype"
        bundle = effects_chart(effects())._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    kind = next(kind for kind in data if kind.startswith("application/vnd.vegalite."))
    assert '"url"' not in json.dumps(data[kind])  # the data are in the specification
    with alt.renderers.enable("default"):
        notebook.enable()
        assert alt.renderers.active == "crosstime"


def test_colab_keeps_the_renderer_of_altair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(notebook.sys.modules, "google.colab", notebook)
    with alt.renderers.enable("default"):
        notebook.enable()
        assert alt.renderers.active == "default"
