from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from report_sample import sample

from crosstime.report.check_table import check_table
from crosstime.report.expected_under_null import expected_number, expected_under_null, expected_words
from crosstime.report.page.expected_ablations import ExpectedAblations
from crosstime.report.page.lives import lives_table
from crosstime.report.page.nulls import nulls_section
from crosstime.report.page.sections import sections
from crosstime.report.page.tables import agreement
from crosstime.report.rows import rows
from crosstime.runs.findings import emergence

COLUMNS = ["null", "source", "claim", "false", "count", "n", "null_count", "null_n", "expected", "low", "high"]
ROWS = [
    ("same-checkpoint", "IE: mine", "emerging", True, 18, 27, 0, 20, 0.0, 0.0, 4.5),
    ("same-checkpoint-noise", "IE: mine", "emerging", True, 18, 27, 1, 30, 0.9, 0.02, 4.7),
    ("random-weights", "IE: mine", "emerging", False, 18, 27, 9, 30, 8.1, 4.0, 13.3),
    ("permuted-tokens", "RelIE: mine", "shared", True, 5, 27, 3, 27, 3.0, 0.6, 7.9),
    ("same-checkpoint", "IE: mine", "transient", True, 0, 27, 0, 20, 0.0, 0.0, 4.5),
]


@pytest.fixture
def nulls() -> pd.DataFrame:
    """A table of null models as a report checks it."""
    table = pd.DataFrame(ROWS, columns=COLUMNS)
    rates = dict.fromkeys(("rate", "rate_low", "rate_high", "fdr", "fdr_low", "fdr_high"), 0.1)
    return check_table(table.assign(seeds=1, **rates), "nulls")


def test_the_expected_number_is_that_of_the_null_model_that_makes_the_claim_false_and_expects_most(nulls):
    assert expected_under_null(nulls, "IE: mine", "emerging") == (0.9, 0.02, 4.7)
    assert expected_words(nulls, "IE: mine", "emerging") == "0.9 [0, 5] expected under the null"
    assert expected_under_null(nulls, "IE: mine", "always") is None
    assert expected_words(nulls, "IE: other", "emerging") == ""


def test_expected_numbers_are_short():
    assert expected_number(9.96, 1.94, 2.04) == "10 [1.9, 2]"
    assert expected_number(12.3, 8.6, 17.4) == "12 [9, 17]"


def test_findings_have_the_expected_number_after_the_features(nulls):
    lives = pd.DataFrame(
        {"task": "mine", "feature": [3, 5], "label": "emerges at main", "life_cycle": "emerging", "strongest": True}
    )
    assert emergence(lives, nulls) == [
        "By their effects on mine, of 2 selected features 2 emerge (at main: f3, f5; "
        "0.9 [0, 5] expected under the null)."
    ]
    assert "expected" not in emergence(lives)[0]


def test_tables_of_lives_and_classes_have_a_column_only_with_null_models(nulls):
    lives = pd.DataFrame(
        {"task": "mine", "feature": [3], "label": "emerges at main", "life_cycle": "emerging", "support": 1.0}
    )
    assert "emerging: 0.9 [0, 5]" in str(lives_table(lives, nulls))
    assert "expected" not in str(lives_table(lives, nulls.iloc[:0]))
    classes = pd.DataFrame({"task": "mine", "feature": [3], "class_ie": "shared", "class_dec": "shared"})
    assert "3 [0.6, 8]" in str(agreement(classes, ["a", "b"], "Classes", {"shared": "3 [0.6, 8]"}))
    assert "expected" not in str(agreement(classes, ["a", "b"], "Classes"))


def test_each_ablation_has_the_expected_number_of_its_class(nulls):
    """Feature 3 is shared and feature 5 spread; of 27 selected features 3 [.6, 8] are expected to be shared."""
    classes = pd.DataFrame(
        {"task": ["mine", "mine", "other"], "feature": [3, 5, 3], "class_ie": ["shared", "spread", "shared"]}
    )
    ablations = pd.DataFrame(
        [
            ("mine", "3", "single"),
            ("mine", "5", "single"),
            ("other", "3", "single"),
            ("mine", "shared (4)", "set"),
            ("mine", "all (9)", "set"),
            ("mine", "4 random", "random"),
        ],
        columns=["task", "features", "kind"],
    )
    expected = ExpectedAblations(nulls, classes)
    cells = [expected.cell(row) for row in rows(ablations)]
    number = "shared: 3 [0.6, 8]"
    assert [cell.content for cell in cells] == [number, "–", "–", number, "–", "–"]
    assert [cell.value for cell in cells if cell.content == number] == [3.0, 3.0]


def test_the_table_of_ablations_has_the_column_only_with_null_models():
    report = sample()
    pictures: dict[str, str] = {}
    with_nulls = {name: markup for name, _, markup in sections(report, pictures)}["ablation"]
    assert "of this class, expected under the null" in str(with_nulls)
    without = replace(report, nulls=report.nulls.iloc[:0])
    assert "expected under the null" not in str(dict(entry[::2] for entry in sections(without, pictures))["ablation"])


def test_the_section_lists_each_claim_and_a_rate_only_where_it_is_false(nulls):
    page = "".join(str(part) for part in nulls_section(nulls))
    assert page.count("18 of 27") == 3
    # Four rows are shown; of these, random weights make no claim false
    assert page.count("0.10 [0.10, 0.10]") == 3
    assert "transient" not in page
