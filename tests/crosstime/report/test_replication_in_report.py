"""Reports of runs with seeds show what replicates, and say what they leave out."""

from __future__ import annotations

import re

import pytest
import report_sample as example

from crosstime.report.page.browser import feature_browser
from crosstime.report.page.features import replication_note, shown_ablations, shown_features, strongest_rows
from crosstime.report.page.lives import lives_table
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.sections import sections


@pytest.fixture(scope="module")
def report() -> ReportInput:
    """A report in which the first three features replicate."""
    table = example.replication()
    table["matches"] = table.feature.isin(example.FEATURES[:3]).astype(int) * 2
    facts = example.facts()
    texts = {True: "yes", False: "no"}
    facts = facts.assign(replicates=[texts[feature in example.FEATURES[:3]] for feature in facts.feature])
    return example.sample(replication=table, facts=facts)


def test_charts_and_tables_show_what_most_seeds_have(report):
    assert set(shown_features(report)) == set(example.FEATURES[:3])
    assert set(strongest_rows(report.effects, report).feature) == {*example.FEATURES[:3], -1}
    singles = shown_ablations(report)
    singles = singles[(singles["kind"] == "single")].features.astype(int)
    assert set(singles) <= set(example.FEATURES[:3])
    assert (shown_ablations(report)["kind"] != "single").sum() == (report.ablation["kind"] != "single").sum()
    assert f"the 3 of {len(example.FEATURES)} selected features" in replication_note(report)
    page = "".join(str(section.markup) for section in sections(report, {}))
    assert replication_note(report) in page


def test_the_browser_has_all_and_begins_with_what_replicates(report):
    page = "".join(str(part) for part in feature_browser(report))
    control = re.search(r"in most seeds <select[^>]*>(.*?)</select>", page)
    assert re.findall(r'value="(\w*)"', control.group(1)) == ["yes", "no", ""]


def test_lives_count_all_and_list_what_replicates(report):
    page = str(lives_table(report.lives, report.nulls, replicated=shown_features(report)))
    linked = {int(feature) for feature in re.findall(r'href="#f(\d+)"', page)}
    assert linked <= set(example.FEATURES[:3])
    assert "in most seeds" in page
    assert "in most seeds" not in str(lives_table(report.lives, report.nulls))


def test_where_nothing_replicates_all_are_shown_and_said_to_be():
    report = example.sample(replication=example.replication(matches=0))
    assert set(shown_features(report)) == set(example.FEATURES)
    assert "No selected feature is in more than half of the 3 seeds" in replication_note(report)


def test_a_report_without_seeds_says_nothing_about_them():
    report = example.sample(replication=example.replication().iloc[:0])
    assert replication_note(report) == ""
    assert set(shown_features(report)) == set(example.FEATURES)
