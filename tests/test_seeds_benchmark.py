"""The benchmark of several dictionaries trains what it says, notes every step, and sees another dictionary."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import seeds  # noqa: E402
from benchmarks.setting import TINY  # noqa: E402

STEPS = 3


@pytest.fixture(scope="module")
def problem(tmp_path_factory) -> seeds.Problem:
    problem = seeds.problem_of(TINY, torch.device("cpu"), 16, tmp_path_factory.mktemp("seeds") / "suite")
    return replace(problem, text=problem.text[:200])


@pytest.mark.long
def test_dictionaries_trained_together_are_those_trained_alone(problem: seeds.Problem):
    case = "3 kinds and sizes"
    rows = seeds.measure(case, seeds.cases(64, STEPS)[case], problem, runs=1)
    weights, activations, *_ = rows
    assert (weights.ours, weights.met) == (0, True)
    assert math.isfinite(activations.ours)
    assert activations.other == seeds.LIMIT


def test_every_step_of_every_dictionary_is_noted(problem: seeds.Problem):
    configs = seeds.cases(64, STEPS)["3 seeds"]
    with seeds.clocked_steps() as steps:
        seeds.trained_together(problem, configs)
    assert len(steps) == len(configs) * STEPS
    assert min(steps) > 0
    with seeds.clocked_steps() as steps:
        seeds.trained_apart(problem, configs[:1])
    assert len(steps) == STEPS


def test_another_seed_is_another_dictionary(problem: seeds.Problem):
    first, second, _ = seeds.trained_together(problem, seeds.cases(64, STEPS)["3 seeds"])
    by_hand = max((first.state_dict()[name] - tensor).abs().max() for name, tensor in second.state_dict().items())
    assert seeds.largest_difference(first, second) == pytest.approx(float(by_hand), rel=1e-6)
    assert seeds.largest_difference(first, second) > 0
    assert seeds.largest_difference(first, first) == 0
