"""The benchmark of estimators: its measures by hand, and a small run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import effects_quality  # noqa: E402
from benchmarks.cases.effects_quality import ESTIMATORS, Quality, agreement, passes, table  # noqa: E402
from benchmarks.gradient_rules import RULES  # noqa: E402
from interventions import Effects  # noqa: E402

METHODS = (*ESTIMATORS, "exact", *RULES)


def effects(values: list[float]) -> Effects:
    """Effects of features 0, 1, ... on one prompt; feature 99 does not fire."""
    n = len(values)
    zeros, ones = torch.zeros(n, dtype=torch.long), torch.ones(1)
    return Effects(
        zeros,
        None,
        torch.arange(n),
        torch.tensor(values),
        ones,
        ones,
        ones,
        torch.ones(1, dtype=torch.long),
        100,
        "exact",
    )


def test_agreement_is_spearman_and_the_overlap_of_the_largest(monkeypatch):
    monkeypatch.setattr(effects_quality, "TOP", 2)
    rank_correlation, overlap = agreement(effects([4.0, 1.0, -9.0, 2.0]), effects([3.0, 5.0, -1.0, 4.0]))
    # Ranks 4 2 1 3 and 2 4 1 3: the squared differences are 4 4 0 0, and 1 - 6 * 8 / (4 * 15) = 0.2
    assert rank_correlation == pytest.approx(0.2)
    # The largest are {2, 0} and {1, 3}
    assert overlap == 0.0
    assert agreement(effects([4.0, 6.0, -9.0, 2.0]), effects([3.0, 5.0, -1.0, 4.0]))[1] == 0.5


def test_passes_are_counted_for_each_prompt():
    two = torch.ones(2)
    exact = replace(effects([1.0, 2.0, 3.0]), error=two, clean=two, baseline=two, lengths=two.long())
    counted = {method: passes(method, exact) for method in METHODS}
    assert counted == {
        **{"atp": 2, "ig 2": 4, "ig 4": 8, "ig 10": 20, "ig": 12},
        **{"exact": 1.5, "relp": 2, "gim": 2, "qk": 3},
    }


def test_the_table_has_means_over_checkpoints_of_every_suite():
    qualities = [
        Quality(suite, "task", "zero", revision, method, rank, 0.5, 0.25, 2.0)
        for suite, revision, method, rank in (
            ("a", "step0", "atp", 0.9),
            ("a", "step1", "atp", 0.7),
            ("b", "step0", "atp", 0.5),
            ("a", "step0", "relp", 0.8),
            ("a", "step1", "relp", 0.8),
            ("b", "step0", "relp", -0.1),
        )
    ]
    lines = table(qualities).splitlines()
    assert lines[0].startswith(
        "| baseline | estimator | passes | ranks, a | ranks, b | lowest | above `atp` | top 10 |"
    )
    assert lines[2:] == [
        "| zero | `atp` | 2 | 0.800 | 0.500 | 0.50 | 0 of 3 | 0.50 | 0.25 |",
        "| zero | `relp` | 2 | 0.800 | -0.100 | -0.10 | 1 of 3 | 0.50 | 0.25 |",
    ]


@pytest.mark.slow
def test_a_quick_run_measures_every_estimator_at_every_checkpoint():
    result = effects_quality.benchmark(True, torch.device("cpu"))
    cases = {row.case for row in result.rows}
    assert len(cases) == 2 * len(METHODS)
    for baseline in ("zero", "patch"):
        ranks = {
            method: [
                row.ours
                for row in result.rows
                if row.case == f"{baseline} baseline, {method}" and "exact" in row.metric
            ]
            for method in METHODS
        }
        assert ranks["exact"] == pytest.approx([1.0] * 2)
        assert ranks["atp"][0] > 0.9


def test_rows_are_means_over_suites_and_checkpoints_and_the_lowest():
    ranks = (
        ("a", "step0", "atp", 0.9),
        ("b", "step0", "atp", 0.7),
        ("a", "step0", "ig", 0.6),
        ("b", "step0", "ig", 0.2),
    )
    qualities = [
        Quality(suite, "task", "zero", revision, method, rank, rank / 2, 0.25, 2.0)
        for suite, revision, method, rank in ranks
    ]
    by_metric = {
        row.metric: (row.ours, row.other) for row in effects_quality.rows(qualities) if row.case.endswith("ig")
    }
    assert by_metric["rank correlation with exact"] == pytest.approx((0.4, 0.8))
    assert by_metric["the same, lowest of all checkpoints"] == pytest.approx((0.2, 0.7))
    assert by_metric[f"share of the top {effects_quality.TOP} of exact"] == pytest.approx((0.2, 0.4))
    assert by_metric["passes per prompt"] == (2.0, 2.0)


def test_the_table_of_other_suites_needs_two_folders(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cases.effects_quality"]
    for arguments in ([], [str(tmp_path)], [str(tmp_path), str(tmp_path / "none")]):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.strip().startswith("effects_quality: give a folder of suites")
