from __future__ import annotations

import pytest
import torch

from crosstime.effects.relie import relative
from crosstime.errors import CrosstimeError
from crosstime.evolution.recovery import PresenceThresholds, recovery
from crosstime.training.plant import Dependence, PlantedProblem, plant, planted_effects, train_planted
from crosstime.training.topk_config import BatchTopKConfig


def test_shared_features_have_one_direction_and_specific_ones_take_turns():
    planted = plant(12, 3, 16, shared=0.5)
    assert planted.present.sum(1).tolist() == [3] * 6 + [1] * 6
    assert planted.present[6:].int().argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(planted.directions[:6, 0], planted.directions[:6, 2])
    norms = planted.directions.norm(dim=-1)
    torch.testing.assert_close(norms[planted.present], torch.ones(24))


def test_turned_and_weak_features_are_as_described():
    planted = plant(40, 3, 64, shared=1.0, turned=0.25, weak=0.25)
    cosine = torch.nn.functional.cosine_similarity(planted.directions[:, 0], planted.directions[:, 1], dim=-1)
    assert cosine[:10].mean().item() == pytest.approx(2**-0.5, abs=0.05)
    torch.testing.assert_close(cosine[10:], torch.ones(30))
    norms = planted.directions.norm(dim=-1)
    assert norms[30:].sort(1).values[0].tolist() == pytest.approx([0.2, 0.2, 1.0])


@pytest.mark.parametrize("n_checkpoints", [2, 3, 5])
def test_children_of_a_hierarchy_follow_their_parents_and_fire_on_half_of_their_tokens(n_checkpoints: int):
    planted = plant(40, n_checkpoints, 256, dependence=Dependence(hierarchy=0.5), density=8.0, noise=0.0)
    assert planted.parents is not None
    children = [feature for feature, parent in enumerate(planted.parents.tolist()) if parent >= 0]
    assert children == list(range(35, 40))
    codes = planted.codes(4_000, torch.Generator().manual_seed(3))
    cut = n_checkpoints // 2
    for child in children:
        parent = int(planted.parents[child])
        assert planted.present[parent].tolist() == [c < cut for c in range(n_checkpoints)]
        assert planted.present[child].tolist() == [c >= cut for c in range(n_checkpoints)]
        cosine = planted.directions[parent, 0] @ planted.directions[child, -1]
        assert cosine.item() == pytest.approx(2**-0.5, abs=0.1)
        fires, parent_fires = codes[:, child] > 0, codes[:, parent] > 0
        assert bool(parent_fires[fires].all())
        assert fires[parent_fires].float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_correlated_features_fire_together_but_as_often_as_others():
    planted = plant(30, 2, 16, dependence=Dependence(correlated=0.6), density=6.0)
    assert planted.partners is not None
    pairs = [(int(partner), feature) for feature, partner in enumerate(planted.partners) if partner >= 0]
    assert len(pairs) == 9
    assert len({feature for pair in pairs for feature in pair}) == 18
    fires = planted.codes(6_000, torch.Generator().manual_seed(4)) > 0
    assert fires.float().mean(0).tolist() == pytest.approx([0.2] * 30, abs=0.03)
    for first, second in pairs:
        # Half of the tokens are copies, and on the others the rate is .2
        assert fires[fires[:, first], second].float().mean().item() == pytest.approx(0.6, abs=0.06)
    loners = [feature for feature in range(30) if all(feature not in pair for pair in pairs)]
    assert fires[fires[:, loners[0]], loners[1]].float().mean().item() == pytest.approx(0.2, abs=0.06)


def test_independent_features_are_drawn_as_before():
    plain, empty = plant(20, 2, 8, seed=3), plant(20, 2, 8, seed=3, dependence=Dependence())
    assert torch.equal(plain.directions, empty.directions)
    assert plain.parents is None
    assert plain.partners is None


def test_activations_are_made_of_the_features_that_fire():
    planted = plant(20, 2, 8, density=3.0, noise=0.0)
    codes = planted.codes(4000, torch.Generator().manual_seed(1))
    active = codes[codes > 0]
    assert (codes > 0).sum(1).float().mean().item() == pytest.approx(3, abs=0.1)
    assert 1 <= active.min() < active.max() <= 2
    x = planted.activations(codes[:5], torch.Generator())
    expected = torch.zeros(5, 2, 8)
    for token in range(5):
        for feature in range(20):
            expected[token] += codes[token, feature] * planted.directions[feature]
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)


def test_effects_on_a_linear_readout_are_what_removing_the_feature_changes():
    planted = plant(10, 3, 16, density=4.0, noise=0.0)
    codes = planted.codes(20, torch.Generator().manual_seed(0))
    readouts = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    effects = planted_effects(planted, readouts, codes)
    for feature in range(10):
        without = codes.clone()
        without[:, feature] = 0
        change = planted.activations(without, torch.Generator()) - planted.activations(codes, torch.Generator())
        torch.testing.assert_close(effects[:, feature], (change * readouts).sum(-1), atol=1e-5, rtol=1e-5)
    specific = relative(effects.mean(0))[5:]
    assert specific.nan_to_num(1.0).amax(1).tolist() == [1.0] * 5


def test_the_planted_crosscoder_is_recovered_in_full():
    planted = plant(60, 3, 96, density=3.0, noise=0.0)
    scores = recovery(planted, planted.crosscoder(), n_tokens=512)
    assert scores["class"].tolist() == ["specific", "shared"] * 3
    norms = scores[scores.by == "decoder norms"]
    assert norms.recall.tolist() == [1.0, 1.0]
    assert norms.precision.tolist() == [1.0, 1.0]


def test_a_shrunken_decoder_costs_precision_that_latent_scaling_gives_back():
    planted = plant(40, 3, 128, shared=0.5, density=3.0, noise=0.0)
    crosscoder = planted.crosscoder()
    with torch.no_grad():
        crosscoder.W_dec[:10, 0] = 0
    scores = recovery(planted, crosscoder, n_tokens=2048).set_index(["by", "class"])
    assert scores.precision["decoder norms", "specific"] == pytest.approx(20 / 30)
    assert scores.recall["decoder norms", "shared"] == pytest.approx(10 / 20)
    assert scores.recall["decoder norms, latent scaling", "shared"] >= 0.9
    assert scores.precision["decoder norms, latent scaling", "specific"] >= 0.9


@pytest.mark.parametrize(("fraction", "recall"), [(3 / 7, 0.5), (0.25, 0.5), (0.15, 1.0)])
def test_weak_features_are_shared_below_a_fraction_of_their_strength(fraction: float, recall: float):
    planted = plant(40, 3, 96, weak=0.5, density=3.0, noise=0.0)
    scores = recovery(planted, planted.crosscoder(), thresholds=PresenceThresholds(fraction), n_tokens=512)
    scores = scores.set_index(["by", "class"])
    assert scores.recall["decoder norms", "shared"] == recall
    # 20 specific features, and the 10 weak ones where they count as specific
    assert scores.learned["decoder norms", "specific"] == (20 if recall == 1 else 30)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_smallest_share_of_the_test_decides_on_weak_features(share: float):
    planted = plant(40, 3, 128, weak=0.5, density=3.0, noise=0.01)
    crosscoder = planted.crosscoder()
    with torch.no_grad():
        crosscoder.b_enc[:] = -0.7
    thresholds = PresenceThresholds(share=share)
    scores = recovery(planted, crosscoder, thresholds=thresholds).set_index(["by", "class"])
    recall = scores.recall["test of presence", "shared"]
    assert recall >= 0.9 if share == 0.1 else recall == pytest.approx(0.5, abs=0.1)


def test_features_that_fire_too_rarely_to_be_tested_are_undecided():
    planted = plant(20, 2, 64, density=2.0, noise=0.01)
    crosscoder = planted.crosscoder()
    with torch.no_grad():
        # Shared features are read at two checkpoints: only codes above 1.95 pass, about 5 of 1,024 tokens
        crosscoder.b_enc[:4] = -3.9
    scores = recovery(planted, crosscoder, n_tokens=1_024).set_index(["by", "class"])
    assert scores.undecided["decoder norms", "shared"] == 0
    assert 1 <= scores.undecided["test of presence", "shared"] <= 4
    assert scores.undecided["test of presence", "shared"] == scores.undecided["test of presence", "specific"]
    assert scores.recall["test of presence", "shared"] <= 0.9


def test_features_that_never_fire_are_not_counted_as_learned():
    planted = plant(20, 2, 32, density=2.0, noise=0.0)
    crosscoder = planted.crosscoder()
    with torch.no_grad():
        crosscoder.b_enc[:5] = -100
    scores = recovery(planted, crosscoder, n_tokens=512).set_index(["by", "class"])
    assert scores.learned["decoder norms", "shared"] == 5
    assert scores.recall["decoder norms", "shared"] == 0.5
    assert scores.precision["decoder norms", "shared"] == 1


def test_training_recovers_a_small_problem_and_is_the_same_twice():
    planted = plant(16, 2, 32, density=2.0, noise=0.01)
    config = BatchTopKConfig(
        n_features=16, k=2, k_start=8, k_steps=200, steps=600, lr=5e-3, dead_after=2_000, decoder_norm=0.3
    )
    trained = train_planted(planted, config, batch_size=128)
    scores = recovery(planted, trained, n_tokens=1024)
    assert scores[scores.by == "decoder norms"].recall.min() >= 0.75
    repeated = train_planted(planted, config, batch_size=128)
    assert torch.equal(repeated.W_dec, trained.W_dec)


def test_bad_input_is_one_sentence():
    with pytest.raises(CrosstimeError, match=r"shared is a fraction between 0 and 1, not 2\.0"):
        plant(shared=2.0)
    with pytest.raises(CrosstimeError, match="a positive density"):
        plant(density=0.0)
    with pytest.raises(CrosstimeError, match=r"hierarchy is a fraction between 0 and 1, not 1\.5"):
        Dependence(hierarchy=1.5)
    with pytest.raises(CrosstimeError, match=r"correlated is a fraction between 0 and 1, not -1\.0"):
        Dependence(correlated=-1.0)
    with pytest.raises(CrosstimeError, match="A hierarchy needs at least two checkpoints"):
        plant(8, 1, 4, dependence=Dependence(hierarchy=1.0))


def test_a_planted_problem_can_be_written_by_hand():
    planted = PlantedProblem(torch.eye(2).reshape(2, 1, 2), density=1.0, noise=0.0)
    assert planted_effects(planted, [[3.0, 0.0]], torch.tensor([[2.0, 5.0]])).flatten().tolist() == [-6, 0]
