"""`exact`, and `ablate`, against a plain forward hook that replaces features' part of the activation."""

from __future__ import annotations

import plain_torch
import pytest
import torch

from interventions import (
    Ablation,
    Baseline,
    Estimator,
    InterventionError,
    Prompts,
    Site,
    ablate,
    indirect_effects,
    upward,
)
from interventions.forward import resume


def metric_with(plain, prompts: Prompts, row: int, x: torch.Tensor, layer: int = 1) -> float:
    """The metric of one prompt with its activation S D replaced."""
    last = plain_torch.logits(plain, prompts.ids[row], {Site(layer): lambda _: x[None]})[-1]
    return plain_torch.difference(last, prompts.right[row], prompts.wrong[row]).item()


def without(plain, dictionary, prompts: Prompts, row: int, features: list[int], patched: bool = False) -> float:
    """The metric of one prompt with the given features at zero, or at the patch prompt's activations."""
    x = plain_torch.residual(plain, prompts.ids[row], 1)
    f = dictionary.encode(x)
    moved = f.clone()
    moved[:, features] = 0.0
    if patched:
        moved[:, features] = dictionary.encode(plain_torch.residual(plain, prompts.patch[row], 1))[:, features]
    return metric_with(plain, prompts, row, x + dictionary.decode(moved) - dictionary.decode(f))


def clean_metric(plain, prompts: Prompts, row: int) -> float:
    last = plain_torch.logits(plain, prompts.ids[row])[-1]
    return plain_torch.difference(last, prompts.right[row], prompts.wrong[row]).item()


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Number of rows of every forward pass upward from a site."""
    rows: list[int] = []

    def counted(model, batch, *arguments, **options):
        rows.append(len(batch.rows))
        return resume(model, batch, *arguments, **options)

    monkeypatch.setattr(upward, "resume", counted)
    return rows


FEATURES = [0, 7, 21, 39]


@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2", "gpt2"])
def test_exact_effects_are_a_forward_hook_that_replaces_one_feature(
    tiny, prompts, dictionary, decompose, name, patched
):
    model, plain = tiny(name)
    clean = decompose(model, prompts)
    baseline = Baseline.patch(decompose(model, prompts.patched)) if patched else "zero"
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator("exact", baseline), features=FEATURES)
    by_prompt = effects.per_prompt(FEATURES)
    for row in range(len(prompts)):
        before = clean_metric(plain, prompts, row)
        for column, feature in enumerate(FEATURES):
            expected = without(plain, dictionary, prompts, row, [feature], patched) - before
            assert by_prompt[row, column].item() == pytest.approx(expected, abs=3e-5)
    assert by_prompt.abs().max() > 1e-2
    assert effects.position is None


@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
def test_the_exact_effect_of_the_error_term_is_its_replacement_alone(tiny, prompts, dictionary, decompose, patched):
    model, plain = tiny("llama")
    clean = decompose(model, prompts)
    baseline = Baseline.patch(decompose(model, prompts.patched)) if patched else "zero"
    effects = indirect_effects(model, prompts, Site(1), clean, Estimator("exact", baseline), features=[0])
    for row, ids in enumerate(prompts.ids):
        x = plain_torch.residual(plain, ids, 1)
        end = dictionary.decode(dictionary.encode(x))
        if patched:
            patch_x = plain_torch.residual(plain, prompts.patch[row], 1)
            end = end + patch_x - dictionary.decode(dictionary.encode(patch_x))
        expected = metric_with(plain, prompts, row, end) - clean_metric(plain, prompts, row)
        assert effects.error[row].item() == pytest.approx(expected, abs=5e-5)


def test_without_a_choice_every_feature_that_fires_is_replaced(tiny, prompts, dictionary, decompose):
    model, plain = tiny("gpt_neox")
    effects = indirect_effects(model, prompts, Site(1), decompose(model, prompts), Estimator("exact"))
    for row, ids in enumerate(prompts.ids):
        fires = (dictionary.encode(plain_torch.residual(plain, ids, 1)) > 1e-4).any(0).nonzero().squeeze(1).tolist()
        assert set(fires) <= set(effects.feature[effects.prompt == row].tolist())


def test_a_feature_named_twice_counts_once(tiny, prompts, decompose):
    model, _ = tiny("gpt_neox")
    clean = decompose(model, prompts)
    once = indirect_effects(model, prompts, Site(1), clean, Estimator("exact"), features=[3, 7])
    twice = indirect_effects(model, prompts, Site(1), clean, Estimator("exact"), features=[3, 7, 3])
    torch.testing.assert_close(twice.per_feature(), once.per_feature())


def test_to_first_order_a_weak_feature_has_its_atp_effect(tiny, prompts, decompose):
    model, _ = tiny("olmo2")
    clean = decompose(model, prompts)
    slope = indirect_effects(model, prompts, Site(1), clean, Estimator("atp")).per_prompt([7])
    exact = indirect_effects(model, prompts, Site(1), clean, Estimator("exact"), features=[7]).per_prompt([7])
    assert torch.corrcoef(torch.stack([slope.squeeze(1), exact.squeeze(1)]))[0, 1] > 0.8


@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2"])
def test_ablating_features_and_sets_is_a_forward_hook_that_does(tiny, prompts, dictionary, decompose, name):
    model, plain = tiny(name)
    groups = [0, 21, [0, 21], [7, 39, 21, 7], list(range(40))]
    ablation = ablate(model, prompts, Site(1), decompose(model, prompts), groups)
    assert ablation.groups == ((0,), (21,), (0, 21), (7, 39, 21, 7), tuple(range(40)))
    for row in range(len(prompts)):
        before = clean_metric(plain, prompts, row)
        assert ablation.clean[row].item() == pytest.approx(before, abs=5e-5)
        for group, features in enumerate(ablation.groups):
            expected = without(plain, dictionary, prompts, row, list(features))
            assert ablation.metric[group, row].item() == pytest.approx(expected, abs=5e-5)
            assert ablation.change[group, row].item() == pytest.approx(expected - before, abs=1e-4)


@pytest.mark.parametrize("max_tokens", [1, 15, 4096])
def test_any_budget_gives_the_same_ablation(tiny, prompts, dictionary, decompose, monkeypatch, max_tokens):
    model, plain = tiny("bloom")
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    ablation = ablate(model, prompts, Site(1), decompose(model, prompts), [0, [21, 7]])
    for row in range(len(prompts)):
        assert ablation.metric[0, row].item() == pytest.approx(without(plain, dictionary, prompts, row, [0]), abs=5e-5)
        assert ablation.metric[1, row].item() == pytest.approx(
            without(plain, dictionary, prompts, row, [21, 7]), abs=5e-5
        )


def test_prompts_in_which_no_feature_of_the_group_fires_keep_the_clean_metric_and_are_not_run(
    tiny, prompts, decompose, passes
):
    model, _ = tiny("llama")
    clean = decompose(model, prompts)
    fires = torch.zeros(len(prompts), 40, dtype=torch.bool)
    fires[prompts.sequence_of_token[clean.codes.token], clean.codes.feature] = True
    rare = fires.sum(0).argsort()[:4].tolist()
    groups = [[rare[0]], [rare[1]], rare]
    n_pairs = sum(int(fires[:, group].any(1).sum()) for group in groups)
    assert 0 < n_pairs < len(groups) * len(prompts)
    ablation = ablate(model, prompts, Site(1), clean, groups)
    assert sum(passes) == len(prompts) + n_pairs
    for index, group in enumerate(groups):
        silent = ~fires[:, group].any(1)
        assert torch.equal(ablation.metric[index][silent], ablation.clean[silent])
        assert bool((ablation.change[index][~silent] != 0).any())


def test_a_mean_ablation_moves_features_to_their_mean_over_tokens(tiny, prompts, dictionary, decompose):
    model, plain = tiny("gpt2")
    clean = decompose(model, prompts)
    ablation = ablate(model, prompts, Site(1), clean, [[7, 21]], baseline="mean")
    xs = [plain_torch.residual(plain, ids, 1) for ids in prompts.ids]
    mean = dictionary.encode(torch.cat(xs)).mean(0)
    for row, x in enumerate(xs):
        f = dictionary.encode(x)
        moved = f.clone()
        moved[:, [7, 21]] = mean[[7, 21]]
        expected = metric_with(plain, prompts, row, x + dictionary.decode(moved) - dictionary.decode(f))
        assert ablation.metric[0, row].item() == pytest.approx(expected, abs=5e-5)


def test_progress_counts_pairs(tiny, prompts, decompose, monkeypatch):
    model, _ = tiny("llama")
    monkeypatch.setattr(model, "max_tokens", 8)
    clean = decompose(model, prompts)
    reports: list[tuple[int, int]] = []
    ablate(model, prompts, Site(1), clean, [0, 1], progress=lambda *counts: reports.append(counts))
    assert reports[-1][0] == reports[-1][1] > 0
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


@pytest.mark.parametrize("groups", [[], [[]], [3, []]])
def test_an_ablation_of_nothing_is_refused(tiny, prompts, decompose, groups):
    model, _ = tiny("llama")
    with pytest.raises(InterventionError, match="at least one feature in every group"):
        ablate(model, prompts, Site(1), decompose(model, prompts), groups)


@pytest.mark.parametrize("feature", [40, -1])
def test_a_feature_that_does_not_exist_is_refused(tiny, prompts, decompose, feature):
    model, _ = tiny("llama")
    clean = decompose(model, prompts)
    with pytest.raises(InterventionError, match=f"Feature {feature} does not exist.*features 0 to 39"):
        ablate(model, prompts, Site(1), clean, [feature])
    with pytest.raises(InterventionError, match=f"Feature {feature} does not exist.*features 0 to 39"):
        indirect_effects(model, prompts, Site(1), clean, Estimator("exact"), features=[feature])


def test_the_change_is_against_the_clean_metric():
    ablation = Ablation(((1,), (2,)), torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([0.5, 1.0]))
    assert ablation.change.tolist() == [[0.5, 1.0], [2.5, 4.0]]
