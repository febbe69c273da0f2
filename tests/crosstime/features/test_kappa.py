from __future__ import annotations

import math

import numpy as np
import pytest

from crosstime.errors import CrosstimeError
from crosstime.features.kappa import cohens_kappa
from interventions import Bootstrap


def by_hand(first: list[str], second: list[str]) -> float:
    n = len(first)
    same = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(first.count(label) * second.count(label) for label in {*first, *second}) / n**2
    return (same - chance) / (1 - chance)


def test_the_example_of_the_literature():
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohens_kappa(first, second)
    assert kappa.kappa == pytest.approx(0.4)
    assert kappa.agreement == pytest.approx(0.7)
    assert kappa.n == 50


def test_kappa_is_that_of_the_definition_and_its_interval_that_of_resampled_items():
    generator = np.random.default_rng(0)
    first = generator.choice(["a", "b", "c"], 60).tolist()
    second = [label if keep else "a" for label, keep in zip(first, generator.random(60) < 0.6, strict=True)]
    kappa = cohens_kappa(first, second, bootstrap=Bootstrap(2_000, seed=1))
    assert kappa.kappa == pytest.approx(by_hand(first, second))
    resamples = np.random.default_rng(7).integers(0, 60, (1500, 60))
    samples = [by_hand([first[i] for i in rows], [second[i] for i in rows]) for rows in resamples]
    assert [kappa.low, kappa.high] == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.03)


def test_one_label_throughout_has_no_kappa():
    kappa = cohens_kappa(["a", "a"], ["a", "a"])
    assert math.isnan(kappa.kappa)
    assert kappa.agreement == 1


def test_labels_of_other_items_are_refused():
    with pytest.raises(CrosstimeError, match="labels of the same items; got 1 and 2"):
        cohens_kappa(["a"], ["a", "b"])
    with pytest.raises(CrosstimeError, match="got 0 and 0"):
        cohens_kappa([], [])
