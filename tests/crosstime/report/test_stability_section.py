"""The section about stability: a row for each variant, a column for each compared checkpoint."""

from __future__ import annotations

import re

import pytest
import report_sample as sample

from crosstime.errors import ReportError
from crosstime.report.page.markup import element
from crosstime.report.page.render import render
from crosstime.report.page.stability import stability_section
from crosstime.report.page.tables import breakable


def cells(markup: str) -> list[list[str]]:
    """The texts of each row of the body."""
    lines = re.findall(r"<tr>(.*?)</tr>", markup.partition("<tbody>")[2], re.S)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.S) for line in lines]


def test_a_row_has_the_agreement_at_every_compared_checkpoint():
    markup = str(element("section", *stability_section(sample.stability(), sample.COMPARED)))
    task = sample.TASKS[0]
    agreement = ["0.25 [0.10, 0.40]", "0.35 [0.20, 0.50]", "0.45 [0.30, 0.60]"]
    assert cells(markup) == [
        [breakable(task), "prompts", "resampled", *agreement, "40"],
        [breakable(task), "baseline", "mean", "–", "–", "–", "16"],
    ]
    assert "The 10 features with the largest effects at a checkpoint" in markup


def test_models_side_by_side_are_no_checkpoints():
    markup = str(element("section", *stability_section(sample.stability(), sample.COMPARED, ordered=False)))
    assert "checkpoint" not in markup
    assert "effects at a model" in markup


def test_the_page_has_the_section_with_the_table_only():
    assert '<section id="stability"' in render(sample.sample(), {}, {})
    table = sample.stability()
    assert '<section id="stability"' not in render(sample.sample(stability=table.iloc[:0]), {}, {})
    with pytest.raises(ReportError, match="the stability table of a report lacks the column 'jaccard'"):
        sample.sample(stability=table.drop(columns="jaccard"))
