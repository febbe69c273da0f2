"""Null models and seeds under which no feature has an effect: a result, not an error."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from small_run import home_of, recipe, short_page

import crosstime as ct
from crosstime.effects.attribution import Attribution
from crosstime.errors import RunError
from crosstime.runs.manifest import read_manifest
from crosstime.runs.null_inputs import NullInputs
from crosstime.runs.seed_inputs import SeedInputs
from crosstime.runs.stages import attribute as attributing
from crosstime.runs.stages import report as reporting
from crosstime.runs.status import status

pytestmark = pytest.mark.slow


class Silent(Attribution):
    """Effects of which none is other than zero."""

    def top(self, k: int = 10, *, by: str = "magnitude") -> list[int]:
        return []


def without_effects(monkeypatch: pytest.MonkeyPatch, *kinds: type) -> None:
    """Let no feature have an effect with inputs of some kinds."""
    write_tables = attributing._write_tables

    def none(inputs, folder, attributions):
        if isinstance(inputs, kinds):
            attributions = [
                Silent(**{field.name: getattr(task, field.name) for field in fields(task)}) for task in attributions
            ]
        write_tables(inputs, folder, attributions)

    monkeypatch.setattr(attributing, "_write_tables", none)
    monkeypatch.setattr(reporting, "write_report", short_page)


def test_a_null_model_that_selects_nothing_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = home_of(tmp_path / "home", recipe() + '\n[null]\nkinds = ["random-weights"]\n')
    monkeypatch.chdir(home)
    without_effects(monkeypatch, NullInputs)
    folder = ct.run(home / "small.toml", home / "runs").folder
    assert status(folder).finished
    assert list(read_manifest(folder / "nulls/random-weights-0")["stages"]) == ["select", "train"]
    table = pd.read_csv(folder / "nulls.csv")
    by_effect = table[table.source.str.contains("IE")]
    assert len(by_effect)
    assert by_effect.null_count.eq(0).all()
    # None of as many as the run selected: Clopper-Pearson's upper bound for 0 of n
    assert by_effect.null_n.tolist() == by_effect.n.tolist()
    assert by_effect.rate_high.tolist() == pytest.approx((1 - 0.025 ** (1 / by_effect.n)).tolist())
    assert table[table.source == "RelDec"].null_n.gt(0).all()


def test_a_seed_that_selects_nothing_replicates_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = home_of(tmp_path / "home", recipe({"crosscoder": {"seeds": [1, 2]}}))
    monkeypatch.chdir(home)
    without_effects(monkeypatch, SeedInputs)
    folder = ct.run(home / "small.toml", home / "runs").folder
    table = pd.read_csv(folder / "replication.csv")
    assert len(table)
    assert table[["selected", "same_class", "same_life"]].to_numpy().sum() == 0
    assert "PW-MCC" in "\n".join(pd.read_csv(folder / "summary.csv").text)


def test_a_run_that_selects_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = home_of(tmp_path / "home", recipe())
    monkeypatch.chdir(home)
    without_effects(monkeypatch, object)
    with pytest.raises(RunError, match="no feature has an effect on any task"):
        ct.run(home / "small.toml", home / "runs")
