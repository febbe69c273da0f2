"""`ig` and `atp` against autograd through the whole dictionary, prompt by prompt, in double precision."""

from __future__ import annotations

import numpy as np
import plain_torch
import pytest
import torch

from interventions import (
    METRICS,
    Baseline,
    Codes,
    Decomposition,
    Effects,
    Estimator,
    InterventionError,
    Prompts,
    Sequences,
    ShapeError,
    Site,
    fetch,
    indirect_effects,
    score,
)
from interventions.path import FEWEST_STEPS


def by_token(effects: Effects, prompts: Prompts) -> torch.Tensor:
    """Effects of every feature at every token, T F."""
    dense = torch.zeros(prompts.n_tokens, effects.n_features, dtype=torch.float64)
    token = prompts.starts[effects.prompt] + effects.position
    return dense.index_put((token, effects.feature), effects.value.double(), accumulate=True)


def nodes_of(quadrature: str, steps: int) -> tuple[list[float], list[float]]:
    if quadrature == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return [(node + 1) / 2 for node in nodes], [weight / 2 for weight in weights]
    offset = {"left": 0.0, "midpoint": 0.5}[quadrature]
    return [(step + offset) / steps for step in range(steps)], [1 / steps] * steps


def brute_force(plain, dictionary, prompts, patched, nodes, weights, metric="logit_difference"):
    """Effects T F of features and P of error terms, prompt by prompt."""
    effects, errors = [], []
    for row, ids in enumerate(prompts.ids):
        patch, answers = prompts.patch[row] if patched else None, (prompts.right[row], prompts.wrong[row])
        effect, error = plain_torch.gradient_effects(
            plain, dictionary, 1, ids, patch, *answers, nodes, weights, plain_torch.METRICS[metric]
        )
        effects.append(effect)
        errors.append(error)
    return torch.cat(effects), torch.stack(errors)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, relative: float = 1e-4) -> None:
    assert expected.abs().max() > 1e-3
    assert float((actual.double() - expected.double()).abs().max() / expected.abs().max()) < relative


def states(model, prompts, decompose, patched):
    """The clean decomposition, and the baseline: that of the patch prompts, or zero."""
    baseline = Baseline.patch(decompose(model, prompts.patched)) if patched else "zero"
    return decompose(model, prompts), baseline


@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
def test_ig_is_autograd_through_the_whole_dictionary(tiny, architecture, prompts, dictionary, decompose, patched):
    model, plain = tiny(architecture)
    clean, baseline = states(model, prompts, decompose, patched)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator(baseline=baseline, steps=5))
    expected, expected_error = brute_force(plain, dictionary, prompts, patched, *nodes_of("gauss-legendre", 5))
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)
    assert_close(effects.per_feature(), expected.sum(0) / len(prompts))


@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
def test_atp_is_the_gradient_at_the_clean_state(tiny, architecture, prompts, dictionary, decompose, patched):
    model, plain = tiny(architecture)
    clean, baseline = states(model, prompts, decompose, patched)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator("atp", baseline))
    expected, expected_error = brute_force(plain, dictionary, prompts, patched, [0.0], [1.0])
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)


@pytest.mark.parametrize("quadrature", ["left", "midpoint", "gauss-legendre"])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom"])
def test_each_quadrature_rule_uses_its_own_nodes(tiny, prompts, dictionary, decompose, name, quadrature):
    model, plain = tiny(name)
    clean = decompose(model, prompts)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator(quadrature=quadrature, steps=10))
    expected, expected_error = brute_force(plain, dictionary, prompts, False, *nodes_of(quadrature, 10))
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)


def test_effects_go_through_a_soft_cap_on_the_logits(tiny, prompts, dictionary, decompose):
    model, plain = tiny("gemma2")
    assert not model.head_is_linear
    effects = indirect_effects(model, prompts, Site(1), decompose(model, prompts), Estimator(steps=4))
    expected, expected_error = brute_force(plain, dictionary, prompts, False, *nodes_of("gauss-legendre", 4))
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_its_own_effects(tiny, prompts, dictionary, decompose, metric):
    model, plain = tiny("bloom")
    effects = indirect_effects(model, prompts, Site(1), decompose(model, prompts), Estimator(metric=metric, steps=4))
    expected, expected_error = brute_force(plain, dictionary, prompts, False, *nodes_of("gauss-legendre", 4), metric)
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)
    assert_close(effects.clean, score(model, prompts, metric), 1e-4)


def test_a_tolerance_that_is_missed_is_said(tiny, prompts, decompose):
    """A metric with a jump has no gradient where it jumps, so that no number of nodes gives its change."""

    def with_a_jump(logits: torch.Tensor, right: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
        difference = (logits.gather(1, right[:, None]) - logits.gather(1, wrong[:, None])).squeeze(1)
        return difference * 1e-3 + (difference * 1e4).floor()

    model, _ = tiny("gpt2")
    clean = decompose(model, prompts)
    with pytest.warns(
        RuntimeWarning, match=r"at resid\.1 miss their tolerance: with 96 nodes, .* by 1 of it, and 0\.02"
    ):
        effects = indirect_effects(model, prompts, Site(1), clean, Estimator(metric=with_a_jump))
    assert effects.completeness_error() > 0.9


def test_the_metric_may_be_a_function_of_the_caller(tiny, prompts, decompose):
    model, _ = tiny("gpt2")
    clean = decompose(model, prompts)

    def twice(logits, right, wrong):
        return 2 * (logits.gather(1, wrong.unsqueeze(1)) - logits.gather(1, right.unsqueeze(1))).squeeze(1)

    custom = indirect_effects(model, prompts, Site(1), clean, Estimator(metric=twice, steps=3))
    built_in = indirect_effects(model, prompts, Site(1), clean, Estimator(steps=3))
    assert_close(custom.per_feature(), 2 * built_in.per_feature())
    with pytest.raises(ShapeError, match="must give one number for each of"):
        indirect_effects(model, prompts, Site(1), clean, Estimator(metric=lambda logits, right, wrong: logits))


@pytest.mark.parametrize("max_tokens", [1, 8, 50])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom"])
def test_any_budget_gives_the_same_effects(tiny, prompts, dictionary, decompose, monkeypatch, name, max_tokens):
    model, plain = tiny(name)
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    clean, baseline = states(model, prompts, decompose, True)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator(baseline=baseline, steps=4))
    expected, expected_error = brute_force(plain, dictionary, prompts, True, *nodes_of("gauss-legendre", 4))
    assert_close(by_token(effects, prompts), expected)
    assert_close(effects.error, expected_error)


@pytest.mark.parametrize("method", ["ig", "atp", "exact"])
def test_a_prompt_has_the_same_effects_alone_and_in_a_padded_batch(tiny, architecture, prompts, decompose, method):
    model, _ = tiny(architecture)
    estimator = Estimator(method, steps=4)
    together = indirect_effects(model, prompts, Site(1), decompose(model, prompts), estimator)
    by_prompt = together.per_prompt(range(together.n_features))
    for row, ids in enumerate(prompts.ids):
        single = Prompts((ids,), prompts.right[row : row + 1], prompts.wrong[row : row + 1])
        alone = indirect_effects(model, single, Site(1), decompose(model, single), estimator)
        assert_close(by_prompt[row], alone.per_prompt(range(together.n_features))[0])
        assert together.error[row].item() == pytest.approx(alone.error[0].item(), abs=1e-4)
        assert together.clean[row].item() == pytest.approx(alone.clean[0].item(), abs=1e-4)
        assert together.baseline[row].item() == pytest.approx(alone.baseline[0].item(), abs=1e-4)


@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
def test_the_two_ends_of_the_path_are_the_clean_and_the_baseline_metric(tiny, prompts, dictionary, decompose, patched):
    model, plain = tiny("olmo")
    clean, baseline = states(model, prompts, decompose, patched)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator("atp", baseline))
    for row, ids in enumerate(prompts.ids):
        right, wrong = prompts.right[row], prompts.wrong[row]
        end = dictionary.bias.expand(1, len(ids), -1)
        if patched:
            end = plain_torch.residual(plain, prompts.patch[row], 1)[None]
        clean = plain_torch.difference(plain_torch.logits(plain, ids)[-1], right, wrong)
        baseline = plain_torch.difference(
            plain_torch.logits(plain, ids, {Site(1): lambda _, end=end: end})[-1], right, wrong
        )
        assert effects.clean[row].item() == pytest.approx(clean.item(), abs=1e-4)
        assert effects.baseline[row].item() == pytest.approx(baseline.item(), abs=1e-4)


def test_features_that_are_zero_in_both_states_have_no_entry(tiny, prompts, dictionary, decompose):
    model, plain = tiny("gpt_neox")
    clean, baseline = states(model, prompts, decompose, True)
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator("atp", baseline))
    active = torch.zeros(prompts.n_tokens, 40, dtype=torch.bool)
    for row, ids in enumerate(prompts.ids):
        tokens = slice(int(prompts.starts[row]), int(prompts.starts[row]) + len(ids))
        for text in (ids, prompts.patch[row]):
            active[tokens] |= dictionary.encode(plain_torch.residual(plain, text, 1)) > 1e-4
    entries = torch.zeros_like(active)
    entries[prompts.starts[effects.prompt] + effects.position, effects.feature] = True
    assert torch.equal(active & ~entries, torch.zeros_like(active))
    assert int((entries & ~active).sum()) <= 2  # codes within rounding of zero


def test_completeness_error_is_its_formula(tiny, prompts, decompose):
    model, _ = tiny("llama")
    effects = indirect_effects(model, prompts, Site(1), decompose(model, prompts), Estimator("atp"))
    per_prompt = effects.per_prompt(range(40)).sum(1) + effects.error.double()
    change = (effects.baseline - effects.clean).double()
    expected = float((per_prompt - change).abs().sum() / change.abs().sum())
    assert effects.completeness_error() == pytest.approx(expected, rel=1e-6)
    assert expected > 0.05


def ordinary_sentences(model) -> Prompts:
    """Prompts for a trained suite; the answers are the first tokens of two words."""
    texts = (
        "The little dog near the big trees",
        "One day, a girl",
        "The teachers that the boy saw",
        "She wanted to go to the park because her friends",
        "Tom and his mother",
        "The cat",
    )
    ids = tuple(tuple(model.tokenizer(text)["input_ids"]) for text in texts)
    right, wrong = (model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" was", " were"))
    assert right != wrong
    return Prompts(ids, (right,) * len(ids), (wrong,) * len(ids))


def principal_features(x: torch.Tensor, share: float = 0.75) -> Decomposition:
    """Each principal direction as two ReLU features, one for each sign; the weakest quarter is left to the error."""
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh
    directions = directions[: max(1, int(share * len(directions)))]
    directions = torch.cat([directions, -directions])
    return Decomposition(x, Codes.from_dense(((x - mean) @ directions.T).relu()), directions, mean)


@pytest.fixture(scope="module")
def natural(trained):
    prompts = ordinary_sentences(trained)
    site = Site(trained.n_layers // 2)
    x = fetch(trained, prompts, [site])[site]
    decomposition = principal_features(x)
    unexplained = decomposition.error.square().sum() / (x - x.mean(0)).square().sum()
    assert 0 < unexplained < 0.2
    return prompts, site, decomposition


def test_effects_of_a_trained_model_add_up_to_the_metrics_change(trained, natural):
    prompts, site, decomposition = natural
    effects = indirect_effects(trained, prompts, site, decomposition, Estimator(steps=32))
    total = effects.per_prompt(range(effects.n_features)).sum(1) + effects.error.double()
    change = (effects.baseline - effects.clean).double()
    assert change.abs().mean() > 0.1
    assert float((total - change).abs().sum() / change.abs().sum()) < 0.01
    assert effects.completeness_error() < 0.01


@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.002])
def test_adaptive_steps_meet_the_tolerance(trained, natural, tolerance):
    prompts, site, decomposition = natural
    effects = indirect_effects(trained, prompts, site, decomposition, Estimator(tolerance=tolerance))
    total = effects.per_prompt(range(effects.n_features)).sum(1) + effects.error.double()
    change = (effects.baseline - effects.clean).double()
    assert float((total - change).abs().sum() / change.abs().sum()) <= 1.01 * tolerance + 1e-5


def test_more_nodes_are_spent_only_where_completeness_asks_for_them(tiny, prompts, decompose):
    model, _ = tiny("gpt_neox")
    clean = decompose(model, prompts)
    coarse = indirect_effects(model, prompts, Site(1), clean, Estimator(steps=FEWEST_STEPS))
    change = (coarse.baseline - coarse.clean).double()
    features = range(coarse.n_features)
    errors = (coarse.per_prompt(features).sum(1) + coarse.error - change).abs()
    # Slightly below the error of all prompts: the worst prompts, with more than half of it, are refined, and the best
    # is not.
    tolerance = 0.9 * float(errors.sum() / change.abs().sum())
    adaptive = indirect_effects(model, prompts, Site(1), clean, Estimator(tolerance=tolerance))
    differs = (adaptive.per_prompt(features) - coarse.per_prompt(features)).abs().amax(1) > 0
    assert bool(differs[errors.argmax()])
    assert not bool(differs[errors.argmin()])
    assert float(errors[~differs].max()) <= float(errors[differs].min())
    assert float(errors[~differs].sum()) <= 0.5 * tolerance * float(change.abs().sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "igg"}, r"no method 'igg'.*did you mean 'ig'\?"),
        ({"method": "apt"}, r"no method 'apt'.*did you mean 'atp'\?"),
        ({"method": "exakt"}, r"no method 'exakt'.*did you mean 'exact'\?"),
        ({"metric": "cross_entrop"}, r"did you mean 'cross_entropy'\?"),
        ({"quadrature": "mid-point"}, r"did you mean 'midpoint'\?"),
        ({"baseline": "pach"}, r"no baseline 'pach'.*did you mean 'patch'\?"),
        ({"steps": 0}, "steps must be at least 1, the nodes of a quadrature, not 0"),
        ({"tolerance": 0.0}, r"tolerance must be positive, a completeness error, not 0\.0"),
    ],
)
def test_an_estimator_refuses_what_it_cannot_do(options, message):
    with pytest.raises(InterventionError, match=message):
        Estimator(**options)


def test_a_decomposition_of_other_tokens_is_refused(tiny, prompts, decompose):
    model, _ = tiny("gpt2")
    other = decompose(model, Sequences(((5, 6, 7),)))
    with pytest.raises(InterventionError, match="decomposition has 3 tokens, but the prompts have 25"):
        indirect_effects(model, prompts, Site(1), other)
    with pytest.raises(
        InterventionError, match="baseline has 3 tokens and 40 features, but the clean state has 25 and 40"
    ):
        indirect_effects(model, prompts, Site(1), decompose(model, prompts), Estimator(baseline=Baseline.patch(other)))


def test_progress_ends_with_all_prompts(tiny, prompts, decompose, monkeypatch):
    model, _ = tiny("gpt2")
    monkeypatch.setattr(model, "max_tokens", 8)
    reports: list[tuple[int, int]] = []
    estimator = Estimator(steps=2)
    indirect_effects(
        model, prompts, Site(1), decompose(model, prompts), estimator, progress=lambda *counts: reports.append(counts)
    )
    assert reports[-1] == (5, 5)
    assert len(reports) > 1
    assert all(0 < done <= total for done, total in reports)
