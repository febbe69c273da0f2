"""How the charts display themselves in a notebook: interactive where scripts run, pictures elsewhere, never from a CDN.

Altair draws a chart with scripts that the browser downloads, so that a page made by nbconvert is empty without a
network. The renderer of this file puts a picture of the chart into the output and its scripts into the same notebook:
the first chart carries them for all (0.9 MB), in whatever order the outputs appear. Where they do not run, as in a
notebook that is not trusted or after the output that carries them was deleted, the chart stays a picture.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import altair as alt
from altair.utils.display import MimeBundleType

from crosstime.report.charts import theme

NAME = "crosstime"
"""Name of the renderer in altair: ``altair.renderers.enable("default")`` returns to altair's own."""

_OWN = frozenset({"panel", "margin", "fixed"})
"""Keys of the ``usermeta`` that `panels.fit` gives to every chart of this package."""


class _Scripts:
    """Which execution of which cell carries the scripts of this notebook."""

    def __init__(self) -> None:
        self.cell: str | None = None
        self.execution: str | None = None

    def are_missing(self, cell: str | None, execution: str | None) -> bool:
        """Whether the next output has to carry them: in the first cell with a chart, each time that the cell runs."""
        if self.execution is not None and (cell is None or cell != self.cell or execution == self.execution):
            return False
        self.cell, self.execution = cell, execution or ""
        return True


_SCRIPTS = _Scripts()


def enable() -> None:
    """Display charts by this file's renderer, unless the reader has chosen another one or the notebook is in Colab.

    Colab shows each output in a frame of its own, which cannot use the scripts of another one, and has a network.
    """
    alt.renderers.register(NAME, render)
    if alt.renderers.active == "default" and "google.colab" not in sys.modules:
        alt.renderers.enable(NAME, **alt.renderers.options)


def render(spec: dict[str, Any], **options: Any) -> MimeBundleType:
    """Return the output of a chart as HTML that needs no network; charts of others are drawn by altair's renderer.

    Args:
        spec: a Vega-Lite specification with its data.
        options: those of altair's renderer; ``embed_options`` are passed to vega-embed.
    """
    from crosstime.report.charts.vega import rounded

    if not spec.get("usermeta", {}).keys() >= _OWN:
        with alt.renderers.enable("default", **options):
            altairs = alt.renderers.get()
        assert altairs is not None  # it is always registered
        return altairs(spec, **options)

    in_theme = rounded(_themed(spec))
    scripts = _bundle() if _SCRIPTS.are_missing(*_running_cell()) else ""
    return {
        "text/html": scripts + _html(in_theme, options.get("embed_options") or {}),
        "text/plain": "<VegaLite chart>",
    }


def _themed(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the chart in the theme of the report, unless the reader has enabled another theme."""
    if alt.theme.active != "default":
        return spec

    # What altair's default theme has set is not a choice of the chart
    enabled = alt.theme.get()
    default: Mapping[str, Any] = enabled().get("config", {}) if enabled is not None else {}
    chosen: dict[str, Any] = {}
    for name, value in spec.get("config", {}).items():
        if name in default and isinstance(value, dict):
            value = {key: setting for key, setting in value.items() if default[name].get(key) != setting}
        chosen[name] = value

    # The chart's own settings come before those of the theme
    config: dict[str, Any] = dict(theme.theme()["config"])
    for name, value in chosen.items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    return {**spec, "config": config}


def _html(spec: dict[str, Any], embed_options: Mapping[str, Any]) -> str:
    """Return a picture of the chart, and a script that replaces it by the chart once vega-embed is there."""
    from crosstime.report.charts.vega import data_uri, script_json, to_svg

    chart = script_json(spec)
    options = {
        "renderer": "svg",
        "ast": True,  # expressions without eval, which the policy of a server of notebooks may forbid
        "actions": {"export": True, "source": False, "compiled": False, "editor": False},
        **embed_options,
    }
    name = hashlib.sha256(chart.encode()).hexdigest()[:16]
    picture = f'<img alt="chart" style="max-width: 100%" src="{data_uri(to_svg(spec))}">'
    # The same chart may be displayed twice, and an output may be shown again by JupyterLab when one scrolls to it.
    return f"""<div data-crosstime-chart="{name}">{picture}</div>
<script>
(() => {{
  const spec = {chart};
  const draw = (embed) => {{
    for (const place of document.querySelectorAll('[data-crosstime-chart="{name}"]:not([data-drawn])')) {{
      const chart = document.createElement("div");
      place.dataset.drawn = "true";
      embed(chart, spec, {script_json(options)}).then(
        () => place.replaceChildren(chart),
        (error) => console.error("a chart stays a picture:", error),
      );
    }}
  }};
  if (window.crosstimeEmbed) draw(window.crosstimeEmbed);
  else (window.crosstimeCharts ||= []).push(draw);
}})();
</script>"""


def _bundle() -> str:
    """Return vega, vega-lite and vega-embed, which draw the charts that have waited for them."""
    from crosstime.report.charts.vega import javascript

    return f"""<script>
if (!window.crosstimeEmbed) {{
  (() => {{
{javascript("crosstimeEmbed")}
  }})();
  for (const draw of window.crosstimeCharts || []) draw(window.crosstimeEmbed);
}}
</script>
"""


def _running_cell() -> tuple[str | None, str | None]:
    """Return the identifiers of the cell and of its execution, as far as the frontend tells them."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "get_parent"):
        return None, None
    parent = shell.get_parent() or {}
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
