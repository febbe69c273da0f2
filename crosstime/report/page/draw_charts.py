"""Draw the charts of a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import altair as alt

from crosstime.errors import ReportError
from crosstime.report.charts.ablation import ablation_chart
from crosstime.report.charts.accuracy import accuracy_chart
from crosstime.report.charts.accuracy_of_models import accuracy_of_models_chart
from crosstime.report.charts.baselines import baselines_chart
from crosstime.report.charts.complexity import complexity_chart
from crosstime.report.charts.decoder_steps import decoder_steps_chart
from crosstime.report.charts.effect_lines import coloured_features
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.faithfulness import faithfulness_chart
from crosstime.report.charts.life_cycles import life_cycles_chart
from crosstime.report.charts.ngrams import ngram_chart
from crosstime.report.charts.norms import norms_chart
from crosstime.report.charts.onsets import onsets_chart
from crosstime.report.charts.relie import relie_chart, relie_histogram
from crosstime.report.charts.similarity import similarity_chart
from crosstime.report.charts.ternary import ternary_chart
from crosstime.report.charts.training_curves import training_chart
from crosstime.report.page.features import strongest_rows

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput


def draw_charts(report: ReportInput) -> dict[str, alt.TopLevelMixin]:
    """Return the charts of a report by name, without those that have nothing to draw.

    Args:
        report: the checked tables.
    """
    # Charts with a mark per feature show the strongest features only
    compared = report.compared
    effects, temporal = strongest_rows(report.effects, report), strongest_rows(report.temporal, report)
    norms = strongest_rows(report.decoder_norms, report)
    colours = coloured_features(effects)
    steps, dimensionality = report.rotation_steps, report.dimensionality

    # Name the charts; they are drawn below
    draw: dict[str, Callable[[], alt.TopLevelMixin]] = {
        "accuracy": partial(accuracy_chart, report.accuracy, compared)
        if report.ordered
        else partial(accuracy_of_models_chart, report.accuracy),
        "similarity": partial(similarity_chart, report.similarity),
        "training": partial(training_chart, report.training),
        "effects": partial(effects_chart, effects, compared, ordered=report.ordered),
        "shares": partial(relie_histogram, report.temporal, compared),
        "ternary": partial(ternary_chart, temporal, compared),
        "temporal": partial(relie_chart, temporal, compared),
        "norms": partial(norms_chart, norms, compared, coloured=colours, ordered=report.ordered),
        "rotation": partial(similarity_chart, report.rotation),
        "onsets": partial(onsets_chart, report.onsets, report.onsets, compared),
        "ngrams": partial(ngram_chart, report.ngrams),
        "decoder-steps": partial(decoder_steps_chart, steps, dimensionality, compared),
        "lives": partial(life_cycles_chart, report.life_cycles),
        "ablation": partial(ablation_chart, report.ablation),
        "faithfulness": partial(faithfulness_chart, report.faithfulness),
        "baselines": partial(baselines_chart, report.baselines),
        "complexity": partial(complexity_chart, report.complexity, compared),
    }

    # Draw those that have data
    charts: dict[str, alt.TopLevelMixin] = {}
    for name, draw_chart in draw.items():
        try:
            charts[name] = draw_chart()
        except ReportError:
            # The tables were checked before, so the only remaining error is that there is nothing to draw
            continue
    return charts
