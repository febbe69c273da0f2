"""Features are selected on one half of the prompts and tested on the other: halves of an attribution."""

from __future__ import annotations

import pytest
import torch

import crosstime as ct
from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.effects.attribution import Attribution
from crosstime.errors import CrosscoderError
from interventions import Aggregation, Codes, Decomposition, Effects, Prompts
from interventions.errors import InterventionError
from tasks import TokenizedTask


def attribution_of(per_prompt: torch.Tensor, *, labels: list[dict[str, str]] | None = None) -> Attribution:
    """An attribution with the given effects of P prompts (one token each), F features and C checkpoints."""
    n_prompts, n_features, n_checkpoints = per_prompt.shape
    ones = torch.ones(n_prompts)
    codes = Codes(torch.arange(n_prompts), torch.zeros(n_prompts, dtype=torch.long), ones, n_prompts, n_features)
    state = Decomposition(torch.zeros(n_prompts, 2), codes, torch.zeros(n_features, 2), torch.zeros(2))
    pairs = tuple(ct.tasks.MinimalPair("a", "b", labels=label) for label in labels or [{}] * n_prompts)
    task = TokenizedTask("mine", ((5,),) * n_prompts, (1,) * n_prompts, (2,) * n_prompts, None, pairs)
    prompt, feature = torch.meshgrid(torch.arange(n_prompts), torch.arange(n_features), indexing="ij")
    effects = [
        Effects(
            prompt=prompt.flatten(),
            position=torch.zeros(n_prompts * n_features, dtype=torch.long),
            feature=feature.flatten(),
            value=per_prompt[:, :, c].flatten().clone(),
            error=0.1 * torch.arange(n_prompts, dtype=torch.float32),
            clean=torch.zeros(n_prompts),
            baseline=ones,
            lengths=torch.ones(n_prompts, dtype=torch.long),
            n_features=n_features,
            method="atp",
        )
        for c in range(n_checkpoints)
    ]
    revisions = tuple(f"step{c}" for c in range(n_checkpoints))
    decomposed = DecomposedTask(task, Prompts.of(task), (state,) * n_checkpoints, None)
    return Attribution("mine", revisions, tuple(effects), torch.ones(n_checkpoints, n_features), decomposed)


def test_halves_are_disjoint_cover_all_prompts_and_have_the_effects_of_their_prompts():
    values = torch.randn(11, 4, 2, generator=torch.Generator().manual_seed(1))
    # Feature 3 tells the prompt, so that the halves can be read from the effects
    values[:, 3] = torch.arange(11.0)[:, None]
    first, second = attribution_of(values).halves(seed=5)
    rows = [half.per_prompt([3])[:, 0, 0].long() for half in (first, second)]
    assert [len(half) for half in rows] == [5, 6]
    assert sorted(torch.cat(rows).tolist()) == list(range(11))
    for half, indices in zip((first, second), rows, strict=True):
        assert indices.tolist() == sorted(indices.tolist())
        assert torch.allclose(half.ie(), values[indices].double().mean(0).T)
        assert torch.allclose(half.effects[1].error, 0.1 * indices.float())
        assert len(half.decomposed.prompts) == len(half.decomposed.task) == len(indices)
    again, other = attribution_of(values).halves(seed=5)[0], attribution_of(values).halves(seed=6)[0]
    assert torch.equal(again.ie(), first.ie())
    assert not torch.equal(other.ie(), first.ie())


def test_effects_of_selected_noise_are_biased_on_the_same_prompts_and_not_on_others():
    values = torch.randn(40, 500, 1, generator=torch.Generator().manual_seed(2))
    attribution = attribution_of(values)
    first, second = attribution.halves()
    top = first.top(20)
    sign = first.ie()[0, top].sign()
    error = 1 / len(second.decomposed.prompts) ** 0.5
    # The true effects are 0; of 500 means of 20 prompts the 20 largest are beyond two standard errors
    assert float((first.ie()[0, top] * sign).mean()) > 2 * error
    assert abs(float((second.ie()[0, top] * sign).mean())) < 3 * error / len(top) ** 0.5


@pytest.mark.parametrize("aggregation", ["sum", "ctt", "ctt-released"])
def test_selected_effects_are_aggregated_as_if_these_prompts_were_all(aggregation: str):
    values = torch.randn(9, 3, 1, generator=torch.Generator().manual_seed(3))
    rows = [7, 2, 4]
    mine = attribution_of(values).effects[0].select(rows).per_feature(aggregation)
    expected = attribution_of(values[rows]).effects[0].per_feature(aggregation)
    assert torch.allclose(mine, expected)
    threshold = 0.0 if aggregation == "sum" else Aggregation(aggregation).threshold
    by_hand = torch.where(values[rows, :, 0].abs() > threshold, values[rows, :, 0], 0.0).double().mean(0)
    assert aggregation == "ctt-released" or torch.allclose(mine, by_hand)


def test_three_prompts_have_no_halves_and_wrong_rows_are_refused():
    three = attribution_of(torch.ones(3, 2, 1))
    with pytest.raises(CrosscoderError, match="mine has 3 prompts; two halves need at least 4"):
        three.halves()
    for rows in ([], [0, 0], [3]):
        with pytest.raises(InterventionError, match="prompts 0 to 2"):
            three.effects[0].select(rows)


def test_evolve_tells_which_features_were_selected_on_which_task(learning_crosscoder):
    crosscoder = learning_crosscoder
    generator = torch.Generator().manual_seed(0)
    shape = (len(crosscoder.origin.revisions), crosscoder.n_features)
    ie = {"mine": torch.rand(shape, generator=generator), "further": torch.rand(shape, generator=generator)}
    lives = ct.evolve(None, crosscoder, ie, features={"mine": [4, 2], "further": [2, 7]})["life_cycles"]
    assert lives.drop_duplicates("feature").feature.tolist() == [4, 2, 7]
    strongest = lives[lives.strongest].groupby("task").feature.agg(list)
    assert strongest["mine"] == [4, 2]
    assert strongest["further"] == [2, 7]
    with pytest.raises(CrosscoderError, match="selected on 'mime', but no effects: did you mean 'mine'"):
        ct.evolve(None, crosscoder, ie, features={"mime": [4]})
