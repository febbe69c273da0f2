"""The section about stability: a row for each variant, a column for each compared checkpoint."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import test_report_sample as sample

from crosstime.errors import ReportError
from crosstime.report.page.markup import element
from crosstime.report.page.render import render
from crosstime.report.page.stability import stability_section


def stability() -> pd.DataFrame:
    first, second = sample.COMPARED[:2]
    rows = [
        ("mine", "prompts", "resampled", first, 10, 0.25, 0.1, 0.4, 40),
        ("mine", "prompts", "resampled", second, 10, 0.875, 0.75, 1.0, 40),
        ("mine", "baseline", "mean", second, 10, float("nan"), float("nan"), float("nan"), 16),
    ]
    columns = ["task", "comparison", "variant", "revision", "k", "jaccard", "jaccard_low", "jaccard_high", "n_prompts"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(kendall=0.5, kendall_low=0.4, kendall_high=0.6)


def cells(markup: str) -> list[list[str]]:
    """The texts of each row of the body."""
    lines = re.findall(r"<tr>(.*?)</tr>", markup.partition("<tbody>")[2], re.S)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.S) for line in lines]


def test_a_row_has_the_agreement_at_every_compared_checkpoint():
    markup = str(element("section", *stability_section(stability(), sample.COMPARED[:2])))
    assert cells(markup) == [
        ["mine", "prompts", "resampled", "0.25 [0.10, 0.40]", "0.88 [0.75, 1.00]", "40"],
        ["mine", "baseline", "mean", "–", "–", "16"],
    ]
    assert "The 10 features with the largest effects at a checkpoint" in markup


def test_models_side_by_side_are_no_checkpoints():
    markup = str(element("section", *stability_section(stability(), sample.COMPARED[:2], ordered=False)))
    assert "checkpoint" not in markup
    assert "effects at a model" in markup


def test_the_page_has_the_section_with_the_table_only():
    page = render(sample.sample(stability=stability()), {}, {})
    assert '<section id="stability"' in page
    assert '<section id="stability"' not in render(sample.sample(), {}, {})
    with pytest.raises(ReportError, match="the stability table of a report lacks the column 'jaccard'"):
        sample.sample(stability=stability().drop(columns="jaccard"))
