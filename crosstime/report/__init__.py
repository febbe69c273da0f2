"""The report of one run: a self-contained HTML page, and every chart and table as files for a paper.

Charts are functions from a table to an altair chart, and can be used alone.
"""

from __future__ import annotations

from crosstime.report.ablation_charts import ablation_chart, faithfulness_chart
from crosstime.report.charts import accuracy_chart, effects_chart, temporal_chart, training_chart
from crosstime.report.contexts import Context
from crosstime.report.described import described
from crosstime.report.drawing import save_chart
from crosstime.report.evolution_charts import decoder_steps_chart, life_cycles_chart, onsets_chart
from crosstime.report.inputs import ReportInput
from crosstime.report.page import write_report
from crosstime.report.share_charts import shares_chart, ternary_chart
from crosstime.report.survey_charts import change_chart, ngram_chart, similarity_chart
from crosstime.report.through_time_charts import norms_chart

__all__ = [
    "Context",
    "ReportInput",
    "ablation_chart",
    "accuracy_chart",
    "change_chart",
    "decoder_steps_chart",
    "described",
    "effects_chart",
    "faithfulness_chart",
    "life_cycles_chart",
    "ngram_chart",
    "norms_chart",
    "onsets_chart",
    "save_chart",
    "shares_chart",
    "similarity_chart",
    "temporal_chart",
    "ternary_chart",
    "training_chart",
    "write_report",
]
