"""Absorption on planted hierarchies, whose parents and children are known, and by counting tokens in a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.absorption import absorption
from crosstime.training.plant import Dependence, PlantedProblem, plant
from interventions import Codes, Decomposition


def absorbing(planted: PlantedProblem) -> CrossCoder:
    """The dictionary in which each child has absorbed its parent, whose direction it writes where that is planted."""
    crosscoder = planted.crosscoder()
    assert planted.parents is not None
    with torch.no_grad():
        for child, parent in enumerate(planted.parents.tolist()):
            if parent >= 0:
                early = planted.directions[parent].norm(dim=-1) > 0
                crosscoder.W_dec[child, early] = planted.directions[parent, early]
    return crosscoder


def decompose(
    planted: PlantedProblem, crosscoder: CrossCoder, seed: int, *, silent: bool
) -> tuple[torch.Tensor, tuple[Decomposition, ...]]:
    """True codes as those of the dictionary; if silent, a parent does not fire where its child does."""
    assert planted.parents is not None
    generator = torch.Generator().manual_seed(seed)
    codes = planted.codes(4_096, generator)
    x = planted.activations(codes, generator).transpose(0, 1)
    learned = codes.clone()
    if silent:
        for child, parent in enumerate(planted.parents.tolist()):
            if parent >= 0:
                learned[codes[:, child] > 0, parent] = 0
    parts = crosscoder.decompose(x)
    return learned, tuple(replace(part, codes=Codes.from_dense(learned)) for part in parts)


@pytest.mark.parametrize(("seed", "n_checkpoints"), [(21, 2), (22, 3), (23, 4)])
@pytest.mark.parametrize("silent", [True, False])
def test_planted_children_absorb_their_parents(seed: int, n_checkpoints: int, silent: bool):
    planted = plant(60, n_checkpoints, 128, dependence=Dependence(0.5, 0.5), density=4.0, noise=0.01, seed=seed)
    crosscoder = absorbing(planted) if silent else planted.crosscoder()
    learned, decompositions = decompose(planted, crosscoder, seed, silent=silent)
    table = absorption(crosscoder, decompositions)

    # Precision and recall of the flag
    assert planted.parents is not None
    pairs = {(parent, child) for child, parent in enumerate(planted.parents.tolist()) if parent >= 0}
    flagged = {(row.parent, row.child) for row in table.itertuples() if row.absorbed}
    assert len(pairs) == 7
    assert len(table) > len(pairs)
    hits = len(flagged & pairs)
    assert hits / len(flagged) >= 0.9
    assert hits / len(pairs) >= 0.9

    # Overlap, cosine and the share of tokens on which the parent fires, by a loop
    cut = n_checkpoints // 2
    x = decompositions[cut - 1].x.double().numpy()
    codes = learned.numpy()
    for row in table[table.absorbed].itertuples():
        parent = planted.directions[row.parent, cut - 1].double().numpy()
        child = crosscoder.W_dec[row.child, cut].detach().double().numpy()
        assert row.last_present == f"c{cut - 1}"
        assert row.cosine == pytest.approx(parent @ child / np.linalg.norm(child) / np.linalg.norm(parent), abs=1e-5)
        z = [(x[t] - x.mean(0)) @ parent for t in range(len(x))]
        level = np.mean([z[t] for t in range(len(x)) if codes[t, row.parent] > 0]) / 2
        tokens = [t for t in range(len(x)) if codes[t, row.child] > 0]
        assert row.overlap == pytest.approx(np.mean([z[t] >= level for t in tokens]), abs=0.02)
        fires = np.mean([codes[t, row.parent] > 0 for t in tokens])
        assert row.fires == pytest.approx(fires)
        assert fires == (0 if silent else 1)


@pytest.mark.parametrize("dependence", [Dependence(), Dependence(correlated=1.0)])
def test_features_that_are_followed_by_others_are_not_absorbed(dependence: Dependence):
    planted = plant(60, 3, 128, dependence=dependence, density=4.0, noise=0.01, seed=24)
    crosscoder = planted.crosscoder()
    _, decompositions = decompose(planted, crosscoder, 24, silent=False)
    table = absorption(crosscoder, decompositions)
    # 30 specific features, of which those at the first two checkpoints end
    assert len(table) == 20
    assert not table.absorbed.any()


@pytest.mark.parametrize(
    ("cosine_of_child", "nested", "absorbed"), [(0.7, True, True), (0.0, True, False), (0.7, False, False)]
)
def test_the_tokens_and_the_direction_of_the_parent_are_needed(cosine_of_child: float, nested: bool, absorbed: bool):
    planted = plant(20, 2, 64, dependence=Dependence(hierarchy=0.2), density=2.0, noise=0.01, seed=5)
    assert planted.parents is not None
    directions = planted.directions.clone()
    parent, child = 18, 19
    own = torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(1)), dim=0)
    own = torch.nn.functional.normalize(own - own @ directions[parent, 0] * directions[parent, 0], dim=0)
    directions[child, 1] = cosine_of_child * directions[parent, 0] + (1 - cosine_of_child**2) ** 0.5 * own
    planted = replace(planted, directions=directions, parents=planted.parents if nested else torch.full((20,), -1))
    crosscoder = planted.crosscoder()
    _, decompositions = decompose(planted, crosscoder, 5, silent=False)
    row = absorption(crosscoder, decompositions, parents={parent: "c0"}).iloc[0]
    assert bool(row.absorbed) == absorbed
    if absorbed:
        assert row.child == child


def test_features_that_hardly_fire_are_left_out_and_bad_input_is_one_sentence():
    planted = plant(12, 2, 32, density=2.0, noise=0.01, seed=1, dependence=Dependence())
    crosscoder = planted.crosscoder()
    _, decompositions = decompose(planted, crosscoder, 1, silent=False)
    assert len(absorption(crosscoder, decompositions)) == 3
    assert absorption(crosscoder, [part.rows(torch.arange(8)) for part in decompositions]).empty
    with pytest.raises(CrosscoderError, match=r"overlap of a child is between 0 and 1, not 1\.5"):
        absorption(crosscoder, decompositions, overlap=1.5)
    with pytest.raises(CrosscoderError, match=r"cosine of a child is between -1 and 1, not -2\.0"):
        absorption(crosscoder, decompositions, cosine=-2.0)
    with pytest.raises(CrosscoderError, match="There is no feature 12: the crosscoder has 0 to 11"):
        absorption(crosscoder, decompositions, parents={12: "c0"})
    with pytest.raises(CrosscoderError, match="Feature 3 cannot end after 'c1'"):
        absorption(crosscoder, decompositions, parents={3: "c1"})
    with pytest.raises(CrosscoderError, match="do not fit a crosscoder"):
        absorption(crosscoder, decompositions[:1])
