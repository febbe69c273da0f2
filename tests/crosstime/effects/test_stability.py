"""Stability of the strongest features: Jaccard and Kendall by hand, planted effects and noise, and other options."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau
from test_effect_halves import attribution_of

import crosstime as ct
from crosstime.effects.stability import COLUMNS
from crosstime.effects.top_k_agreement import top_k_agreement
from crosstime.errors import CrosscoderError, CrosstimeError, RecipeError
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stability_sentences import stability_sentences
from interventions import Bootstrap, Estimator

FREE = ct.Stability(comparisons=["prompts", "templates"], k=5)
FEW = Bootstrap(resamples=60, seed=3)


def tau_by_hand(first: list[float], second: list[float]) -> float:
    """Kendall's tau-b, pair by pair."""
    score, pairs, ties = 0.0, 0, [0, 0]
    for i, j in itertools.combinations(range(len(first)), 2):
        a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
        score, pairs = score + a * b, pairs + 1
        ties = [ties[0] + (a == 0), ties[1] + (b == 0)]
    return score / ((pairs - ties[0]) * (pairs - ties[1])) ** 0.5


def by_hand(first: np.ndarray, second: np.ndarray, k: int) -> tuple[float, float]:
    tops = []
    for effects in (first, second):
        order = sorted(range(len(effects)), key=lambda feature: (-abs(effects[feature]), feature))[:k]
        tops.append({feature for feature in order if effects[feature] != 0})
    union = sorted(tops[0] | tops[1])
    tau = tau_by_hand([abs(first[feature]) for feature in union], [abs(second[feature]) for feature in union])
    return len(tops[0] & tops[1]) / len(union), tau


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [3, 5, 50])
def test_agreement_is_that_of_sets_and_pairs(seed: int, k: int):
    generator = np.random.default_rng(seed)
    first = generator.normal(size=40)
    second = first + generator.normal(size=40)
    if seed % 2:
        # Ties, and features without any effect
        first, second = (first * 2).round(), (second * 2).round()
    jaccard, tau = top_k_agreement(first, second, k)
    assert (jaccard, tau) == pytest.approx(by_hand(first, second, k))
    assert top_k_agreement(second, first, k) == pytest.approx((jaccard, tau))


def test_tau_over_all_features_is_that_of_scipy_and_one_for_equal_lists():
    generator = np.random.default_rng(0)
    first, second = generator.uniform(1, 2, size=30), generator.uniform(1, 2, size=30)
    assert top_k_agreement(first, second, 30) == pytest.approx((1, kendalltau(first, second).statistic))
    assert top_k_agreement(first, -first, 4) == pytest.approx((1, 1))


def test_what_has_no_rank_is_nan_or_refused():
    zeros, single = np.zeros(4), np.array([0.0, 2.0, 0.0, 0.0])
    assert np.isnan(top_k_agreement(zeros, zeros, 3)).all()
    assert top_k_agreement(zeros, single, 3)[0] == 0
    jaccard, tau = top_k_agreement(single, single, 3)
    assert jaccard == 1
    assert np.isnan(tau), "a single feature has no order"
    with pytest.raises(CrosstimeError, match="1 effects are NaN"):
        top_k_agreement(np.array([np.nan, 1.0]), np.ones(2), 1)
    with pytest.raises(CrosstimeError, match="k must be at least 1, not 0"):
        top_k_agreement(zeros, single, 0)


def planted(*, spread: float, n_prompts: int = 40) -> torch.Tensor:
    """Effects of 24 features, of which the first five are 5, 4, 3, 2 and 1, with noise from prompt to prompt."""
    truth = torch.zeros(24)
    truth[:5] = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    noise = torch.randn(n_prompts, 24, 3, generator=torch.Generator().manual_seed(0))
    return truth[None, :, None] + spread * noise


@pytest.fixture(scope="module")
def stability_of(learning_suite, learning_crosscoder):
    """The table of given effects; nothing is computed again."""

    def table(values: torch.Tensor, labels: list[dict[str, str]] | None = None) -> pd.DataFrame:
        attribution = attribution_of(values, labels=labels)
        return ct.effect_stability(learning_suite, learning_crosscoder, attribution, stability=FREE, bootstrap=FEW)

    return table


def test_planted_effects_are_stable_and_noise_is_not(stability_of):
    stable = stability_of(planted(spread=0.2))
    noise = stability_of(torch.randn(40, 24, 3, generator=torch.Generator().manual_seed(1)))
    assert list(stable.columns) == list(COLUMNS)
    assert stable[["comparison", "variant", "revision"]].to_numpy().tolist() == [
        ["prompts", variant, f"step{c}"] for variant in ("resampled", "halves") for c in range(3)
    ]
    assert (stable.jaccard == 1).all()
    assert (stable.kendall > 0.99).all()
    assert (stable[["jaccard_low", "jaccard_high"]] == 1).all().all()
    # Two random sets of 5 of 24 share about one feature: a Jaccard index of 1/9
    halves = noise[noise.variant == "halves"]
    assert (halves.jaccard < 0.25).all()
    assert (noise[noise.variant == "resampled"].jaccard > halves.jaccard.max()).all()
    assert (noise.jaccard_low <= noise.jaccard).all()
    assert (noise.jaccard <= noise.jaccard_high).all()
    assert (noise.n_prompts == 40).all()


def test_resampled_prompts_and_halves_are_those_of_a_loop(stability_of):
    values = planted(spread=3.0, n_prompts=9)
    table = stability_of(values).set_index(["variant", "revision"])
    own = values[:, :, 1].double().numpy()
    counts = np.random.default_rng([3, 0]).multinomial(9, np.full(9, 1 / 9), size=60)
    resampled = []
    for count in counts:
        rows = [row for row, times in enumerate(count) for _ in range(times)]
        resampled.append(by_hand(own.mean(0), own[rows].mean(0), 5))
    row = table.loc[("resampled", "step1")]
    assert (row.jaccard, row.kendall) == pytest.approx(tuple(np.mean(resampled, 0)))
    low, high = np.percentile([jaccard for jaccard, _ in resampled], [2.5, 97.5])
    assert (row.jaccard_low, row.jaccard_high) == pytest.approx((low, high))

    splits = np.argsort(np.random.default_rng([3, 1]).random((60, 9)), axis=1)
    halves = [by_hand(own[order < 4].mean(0), own[order >= 4].mean(0), 5) for order in splits]
    row = table.loc[("halves", "step1")]
    assert (row.jaccard, row.kendall) == pytest.approx(tuple(np.mean(halves, 0)))


def test_templates_are_values_of_labels_against_all_other_prompts(stability_of):
    values = planted(spread=0.1, n_prompts=24)
    # On template c, the features 10 to 14 take the places of 0 to 4, three times as strong as these
    values[16:, 10:15] += 3 * values[16:, :5]
    values[16:, :5] = 0.0
    # "id" names single prompts, "all" all of them, and "parity" says the same as "half"
    labels = [
        {"template": "abc"[row // 8], "half": "xy"[row % 2], "id": str(row), "all": "1", "parity": "yx"[row % 2]}
        for row in range(24)
    ]
    table = stability_of(values, labels)
    rows = table[(table.comparison == "templates") & (table.revision == "step0")].set_index("variant")
    assert rows.index.tolist() == ["half=x", "template=a", "template=b", "template=c"]
    assert rows.n_prompts.tolist() == [12, 8, 8, 8]
    assert rows.jaccard["half=x"] > 0.6
    assert rows.jaccard["template=c"] == 0
    means = values[:, :, 0].double()
    expected = by_hand(means[8:].mean(0).numpy(), means[:8].mean(0).numpy(), 5)
    assert (rows.jaccard["template=a"], rows.kendall["template=a"]) == pytest.approx(expected)


@pytest.mark.long
def test_other_options_are_the_effects_by_them_on_the_same_prompts(learning_suite, learning_crosscoder):
    task = ct.tasks.load("agreement/simple", limit=12)
    estimator = Estimator(method="atp")
    attribution = ct.attribute(learning_suite, learning_crosscoder, task, estimator)
    options = ct.Stability(comparisons=["metric", "baseline", "estimator", "dtype"], k=4, prompts=6)
    table = ct.effect_stability(
        learning_suite, learning_crosscoder, attribution, estimator, stability=options, bootstrap=FEW
    )
    assert table.groupby("comparison", sort=False).variant.unique().map(list).to_dict() == {
        "metric": ["log_prob_difference", "probability_difference", "cross_entropy"],
        "baseline": ["mean", "resample", "patch"],
        "estimator": ["ig, gauss-legendre, 6 nodes", "ig, left, 10 nodes"],
        "dtype": ["bfloat16"],
    }
    assert (table.n_prompts == 6).all()
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(3))[:6].sort().values.tolist()
    subset = attribution.select(rows)
    for variant, changed in (
        ("cross_entropy", replace(estimator, metric="cross_entropy")),
        ("patch", replace(estimator, baseline="patch")),
        ("ig, left, 10 nodes", replace(estimator, method="ig", quadrature="left", steps=10)),
    ):
        other = ct.attribute(learning_suite, learning_crosscoder, subset.decomposed, changed)
        for revision, first, second in zip(attribution.revisions, subset.ie(), other.ie(), strict=True):
            row = table[(table.variant == variant) & (table.revision == revision)].iloc[0]
            expected = by_hand(first.numpy(), second.numpy(), 4)
            assert (row.jaccard, row.kendall) == pytest.approx(expected, abs=1e-9)


def test_wrong_options_and_too_few_prompts_are_refused(stability_of):
    with pytest.raises(CrosscoderError, match="no comparison 'templats': did you mean 'templates'"):
        ct.Stability(comparisons=["templats"])
    with pytest.raises(CrosscoderError, match="'dtype' is there twice"):
        ct.Stability(comparisons=["dtype", "dtype"])
    with pytest.raises(CrosscoderError, match="k must be at least 1"):
        ct.Stability(k=0)
    with pytest.raises(CrosscoderError, match="prompts must be at least 4"):
        ct.Stability(prompts=3)
    with pytest.raises(CrosscoderError, match="mine has 3 prompts; the stability of effects needs at least 4"):
        stability_of(torch.ones(3, 24, 3))
    for key, sentence in (
        ('comparisons=["prompt"]', "no comparison 'prompt': did you mean 'prompts'"),
        ("resamples=0", "resamples must be at least 1"),
        ("k=0", "k must be at least 1"),
    ):
        with pytest.raises(RecipeError, match=sentence):
            Recipe.named("demo", [f"stability.{key}"])


def test_the_sentences_name_the_range_of_the_agreement_and_the_least_stable_variants():
    def row(comparison: str, variant: str, step: int, jaccard: float) -> dict[str, object]:
        interval = {"jaccard_low": jaccard - 0.1, "jaccard_high": jaccard + 0.1}
        values = {"task": "mine", "comparison": comparison, "variant": variant, "revision": f"step{step}", "k": 10}
        return values | {"jaccard": jaccard} | interval

    rows = [
        row("prompts", "resampled", 0, 0.3),
        row("prompts", "resampled", 8, 0.82),
        row("prompts", "halves", 8, 0.1),
        # The lowest value is of another variant than the lowest mean over checkpoints
        row("baseline", "mean", 0, 0.2),
        row("baseline", "mean", 8, 0.9),
        row("estimator", "atp", 0, 0.4),
        row("estimator", "atp", 8, 0.4),
        row("metric", "cross_entropy", 0, np.nan),
        row("templates", "half=x", 8, 0.0),
    ]
    features = "the 10 features with the largest effects on mine"
    sentences = [
        f"Over resampled prompts, {features} agree: "
        "Jaccard index 0.30 [0.20, 0.40] at step0 to 0.82 [0.72, 0.92] at step8.",
        f"Of the other choices, estimator atp changes {features} most: Jaccard index 0.40 [0.30, 0.50] at step0.",
        f"Between prompts with half=x and all others, {features} differ most: "
        "Jaccard index 0.00 [-0.10, 0.10] at step8.",
    ]
    assert stability_sentences(pd.DataFrame(rows)) == sentences
    assert stability_sentences(pd.DataFrame(rows[:1])) == [
        f"Over resampled prompts, {features} agree: Jaccard index 0.30 [0.20, 0.40] at step0."
    ]
    assert stability_sentences(pd.DataFrame(rows)[7:8]) == []
