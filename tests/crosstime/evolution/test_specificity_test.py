from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from crosstime.errors import CrosstimeError
from crosstime.evolution.specificity_test import benjamini_hochberg, specificity_test


def test_p_is_the_share_of_all_orders_with_at_least_as_large_a_share():
    effects = torch.tensor([[0.2, 1.0], [0.1, 0.8], [-0.1, 0.3], [0.4, 0.2]]).unsqueeze(1)
    observed = np.abs(effects.numpy().mean(0)[0])
    observed = observed / observed.sum()
    counts = np.zeros(2)
    orders = list(product(permutations(range(2)), repeat=4))
    for combination in orders:
        mean = np.abs(np.mean([effects[p, 0].numpy()[list(order)] for p, order in enumerate(combination)], 0))
        counts += mean / mean.sum() >= observed - 1e-12
    table = specificity_test(effects, ["early", "late"], permutations=20_000, seed=1)
    assert table.relie.tolist() == pytest.approx(observed)
    assert table.p.tolist() == pytest.approx(counts / len(orders), abs=0.012)


def test_a_feature_of_one_checkpoint_is_specific_and_an_equal_one_is_not():
    generator = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(60, 2, 3, generator=generator)
    noise[:, 0, 1] += 1
    noise[:, 1] += 1
    table = specificity_test(noise, ["a", "b", "c"], features=[7, 9], permutations=999).set_index(
        ["feature", "revision"]
    )
    assert table.p[7, "b"] == pytest.approx(0.001)
    assert table.q[7, "b"] < 0.01
    assert table.p[7, "a"] > 0.9
    assert (table.p[9] > 0.02).all()


def test_p_is_uniform_when_checkpoints_are_exchangeable():
    effects = torch.randn(40, 300, 2, generator=torch.Generator().manual_seed(5)) + 1
    p = specificity_test(effects, ["a", "b"], permutations=400, seed=2).p.to_numpy()
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_table_and_the_features_do_not_disturb_each_other():
    effects = torch.randn(10, 3, 3, generator=torch.Generator().manual_seed(0))
    first, second = (specificity_test(effects, ["a", "b", "c"], permutations=200, seed=4) for _ in range(2))
    assert first.equals(second)
    alone = specificity_test(effects[:, 1:2], ["a", "b", "c"], permutations=200, seed=4)
    assert alone.p.tolist() == first[first.feature == 1].p.tolist()


def test_a_feature_without_effect_is_not_tested():
    table = specificity_test(torch.zeros(5, 1, 2), ["a", "b"], permutations=10)
    assert table[["relie", "p", "q", "p_max"]].isna().all().all()
    effects = torch.randn(12, 2, 2, generator=torch.Generator().manual_seed(1)) + 1
    with_nothing = torch.cat([effects[:, :1], torch.zeros(12, 1, 2), effects[:, 1:]], 1)
    table = specificity_test(with_nothing, ["a", "b"], permutations=50)
    assert table[table.feature == 1].p_max.isna().all()
    tested = specificity_test(effects, ["a", "b"], permutations=50)
    assert table[table.feature != 1].p_max.tolist() == tested.p_max.tolist()


def test_p_max_is_the_step_down_max_t_over_all_orders():
    """Three features, one of them nearly a copy of another; every order of two checkpoints on six prompts in a loop."""
    generator = torch.Generator().manual_seed(3)
    effects = torch.randn(6, 3, 2, generator=generator) + torch.tensor([[1.0, 1.6], [1.0, 1.4], [1.0, 1.0]])
    effects[:, 1] = effects[:, 0] + 0.05 * effects[:, 1]
    values = effects.double().numpy()

    def share(table: np.ndarray) -> np.ndarray:
        mean = np.abs(table.mean(0))
        return (mean / mean.sum(1, keepdims=True)).ravel()

    orders = list(product(((0, 1), (1, 0)), repeat=6))
    shares = np.array([share(np.stack([values[p][:, list(o)] for p, o in enumerate(order)])) for order in orders])
    t = (shares - shares.mean(0)) / shares.std(0)
    observed, expected, running = t[0], np.zeros(6), 0.0
    for rank, hypothesis in enumerate(ordered := np.argsort(-observed)):
        rest = ordered[rank:]
        running = max(running, np.mean(t[:, rest].max(1) >= observed[hypothesis] - 1e-9))
        expected[hypothesis] = running
    table = specificity_test(effects, ["early", "late"], permutations=20_000, seed=1)
    assert table.p_max.tolist() == pytest.approx(expected.tolist(), abs=0.015)
    assert (table.p_max >= table.p - 1e-12).all()


def test_p_max_of_one_hypothesis_in_two_is_p():
    """The shares of two checkpoints add up to 1, so that the larger one has the p of both directions."""
    effects = torch.randn(15, 1, 2, generator=torch.Generator().manual_seed(8)) + torch.tensor([0.5, 1.0])
    table = specificity_test(effects, ["a", "b"], permutations=3_000, seed=0).set_index("revision")
    both = 2 * table.p.min()
    assert table.p_max.min() == pytest.approx(both, abs=0.02)
    assert table.p_max.max() >= table.p.max() - 1e-12


def test_any_false_claim_is_as_rare_as_p_max_says():
    """Under exchangeable checkpoints the smallest p_max of correlated features is below .1 in a tenth of the cases."""
    generator, smallest = torch.Generator().manual_seed(7), []
    for seed in range(150):
        common = torch.randn(12, 1, 2, generator=generator)
        effects = 1 + common + 0.5 * torch.randn(12, 8, 2, generator=generator)
        smallest.append(specificity_test(effects, ["a", "b"], permutations=99, seed=seed).p_max.min())
    assert np.mean(np.array(smallest) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_false_discovery_rates_are_those_of_the_definition():
    p = np.array([0.04, 0.01, np.nan, 0.5, 0.03])
    ranked = np.sort(p[~np.isnan(p)])
    expected = {value: min(ranked[j] * 4 / (j + 1) for j in range(i, 4)) for i, value in enumerate(ranked)}
    q = benjamini_hochberg(p)
    assert np.isnan(q[2])
    assert [q[i] for i in (0, 1, 3, 4)] == pytest.approx([expected[p[i]] for i in (0, 1, 3, 4)])


def test_bad_input_is_one_sentence():
    effects = torch.ones(3, 2, 2)
    with pytest.raises(CrosstimeError, match="do not fit effects of 2 features at 2 checkpoints"):
        specificity_test(effects, ["a"])
    with pytest.raises(CrosstimeError, match="at least two checkpoints, two prompts and one permutation"):
        specificity_test(effects[:1], ["a", "b"])
