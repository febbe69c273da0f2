"""A crosscoder beside other dictionaries: against bare models, and against the functions that take one dictionary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bare_models import scores_with

import crosstime as ct
from crosstime.crosscoders.baselines.decompose_by import decompose_by
from crosstime.crosscoders.baselines.linear_basis import LinearBasis, neurons, principal_components
from crosstime.crosscoders.baselines.random_directions import RandomDirections
from crosstime.crosscoders.select_prompts import select_prompts
from crosstime.effects.baselines import COLUMNS, baselines
from crosstime.effects.circuit_areas import circuit_areas
from crosstime.effects.faithfulness import Restoration, ranking
from crosstime.effects.halves import halves
from crosstime.errors import CrosscoderError
from interventions import Baseline, Bootstrap, Estimator, Site

BRIEF = Bootstrap(resamples=40, seed=3)


@pytest.fixture(scope="module")
def suite(learning_suite) -> ct.Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder) -> ct.CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def decomposed(suite, crosscoder):
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=10)
    return ct.decompose_task(suite, crosscoder, task)


@pytest.fixture(scope="module")
def components(crosscoder, decomposed) -> LinearBasis:
    return principal_components(crosscoder.origin, torch.stack([state.x for state in decomposed.clean]))


@pytest.fixture(scope="module")
def table(suite, crosscoder, decomposed, components):
    dictionaries = {"neurons": neurons(crosscoder.origin), "components": components}
    return baselines(suite, crosscoder, decomposed, dictionaries, sizes=[1, 4, 20], bootstrap=BRIEF)


def test_effects_of_neurons_are_those_of_activation_patching(suite, crosscoder, decomposed):
    """Every neuron of every prompt set to zero at all positions, in a loop over bare models."""
    basis = neurons(crosscoder.origin)
    few = select_prompts(decomposed, [0, 3, 7])
    attribution = ct.attribute(suite, basis, decompose_by(basis, few), Estimator(method="exact"))
    table = ct.ablate(suite, basis, decompose_by(basis, few), [0, 5], bootstrap=Bootstrap(20))
    for c, revision in enumerate(suite.revisions):
        x = few.clean[c].x
        clean = scores_with(suite, few, revision, x)
        effects = []
        for neuron in range(x.shape[1]):
            patched = x.clone()
            patched[:, neuron] = 0
            effects.append(scores_with(suite, few, revision, patched) - clean)
        effects_of_features = attribution.per_prompt(list(range(x.shape[1])))[:, :, c].numpy()
        np.testing.assert_allclose(effects_of_features, np.stack(effects, 1), atol=2e-5)
        change = table[table.revision == revision].logit_difference_change
        np.testing.assert_allclose(change, [-effects[0].mean(), -effects[5].mean()], atol=2e-5)


def test_some_prompts_of_a_decomposed_task_are_its_rows(suite, crosscoder, decomposed):
    rows = [8, 2]
    alone = ct.decompose_task(suite, crosscoder, decomposed.task.select(rows))
    part = select_prompts(decomposed, rows)
    assert part.task == alone.task
    for own, other in zip(part.clean, alone.clean, strict=True):
        torch.testing.assert_close(own.x, other.x)
        torch.testing.assert_close(own.codes.dense(), other.codes.dense())
        assert own.codes is part.clean[0].codes
    assert (part.patched is None) == (decomposed.patched is None)
    with pytest.raises(CrosscoderError, match="prompts 0 to 9; select at least one"):
        select_prompts(decomposed, [10])


def test_curves_are_those_of_each_dictionary_alone(suite, crosscoder, decomposed, components, table):
    generator = torch.Generator().manual_seed(BRIEF.seed)
    selection, held_out = halves(decomposed, None, generator)
    assert table.columns.tolist() == list(COLUMNS)
    assert table.dictionary.unique().tolist() == ["crosscoder", "neurons", "components"]
    dictionaries = {"crosscoder": crosscoder, "neurons": neurons(crosscoder.origin), "components": components}
    for name, dictionary in dictionaries.items():
        own = decompose_by(dictionary, decomposed)
        attribution = ct.attribute(suite, dictionary, own, Estimator(baseline="mean"))
        every = list(range(dictionary.n_features))
        per_prompt = attribution.per_prompt(every)
        ranked = {
            revision: [
                feature
                for feature in per_prompt[selection, :, c].mean(0).abs().argsort(descending=True, stable=True).tolist()
                if per_prompt[selection, feature, c].mean() != 0
            ][:20]
            for c, revision in enumerate(suite.revisions)
        }
        alone = ct.faithfulness(
            suite,
            dictionary,
            select_prompts(own, held_out.tolist()),
            ranked,
            restoration=Restoration(sizes=[1, 4, 16, 20], keep_error=False),
            bootstrap=BRIEF,
        )
        areas = circuit_areas(alone, largest=20).set_index("revision")
        for c, revision in enumerate(suite.revisions):
            rows = table[(table.dictionary == name) & (table.revision == revision)].set_index("n")
            curve = alone[alone.revision == revision].set_index("n")
            last = min(20, len(ranked[revision]))
            for n, row in rows.iterrows():
                expected = curve.loc[min(n, last)]
                for column in ("faithfulness", "completeness", "completeness_low", "completeness_high"):
                    assert row[column] == pytest.approx(expected[column], rel=1e-4, abs=1e-4)
                means = per_prompt[held_out, :, c].mean(0).abs()
                error = attribution.effects[c].error[held_out].mean().abs()
                share = means[ranked[revision][: min(n, last)]].sum() / (means.sum() + error)
                assert row.effect_share == pytest.approx(share.item(), rel=1e-4)
            # 16 is there for dictionaries that end there; no other curve has a point at it
            curve_areas = areas.loc[revision] if last < 20 else circuit_areas(
                alone[(alone.revision == revision) & (alone.n != 16)], largest=20
            ).iloc[0]  # fmt: skip
            assert rows.cpr.tolist() == pytest.approx([curve_areas.cpr] * 3, rel=1e-4, abs=1e-4)
            assert rows.cmd.tolist() == pytest.approx([curve_areas.cmd] * 3, rel=1e-4, abs=1e-4)


def test_all_components_are_the_whole_model(table):
    """16 directions in 16 dimensions leave nothing out, and without any of them the mean is left."""
    whole = table[table.dictionary.isin(["neurons", "components"]) & (table.n == 20)]
    assert len(whole) == 6
    np.testing.assert_allclose(whole.faithfulness, 1, atol=1e-4)
    np.testing.assert_allclose(whole.completeness, 0, atol=1e-4)
    np.testing.assert_allclose(whole.effect_share, 1, atol=1e-4)
    assert whole.l0.tolist() == pytest.approx([16.0] * 6)


def test_differences_are_crosscoder_minus_dictionary(table):
    once = table.drop_duplicates(["revision", "dictionary"]).set_index(["revision", "dictionary"])
    for (revision, name), row in once.iterrows():
        for area in ("cpr", "cmd"):
            own = once.loc[(revision, "crosscoder")]
            assert row[f"{area}_difference"] == pytest.approx(own[area] - row[area], abs=1e-12)
            assert row[f"{area}_low"] <= row[f"{area}_high"]
            if name == "crosscoder":
                assert row[f"{area}_difference_low"] == row[f"{area}_difference_high"] == 0


def test_the_same_seed_gives_the_same_table(suite, crosscoder, decomposed):
    dictionaries = {"random-directions": RandomDirections(crosscoder, 1)}
    first, again = (
        baselines(suite, crosscoder, decomposed, dictionaries, sizes=[2], bootstrap=BRIEF) for _ in range(2)
    )
    assert first.equals(again)


def test_an_attribution_ranks_other_dictionaries_too(suite, crosscoder, decomposed, components):
    attribution = ct.attribute(suite, components, decompose_by(components, decomposed), Estimator(method="atp"))
    assert all(len(ranked) == 16 for ranked in ranking(attribution).values())
    assert attribution.table([0, 3], bootstrap=Bootstrap(20)).decoder_norm.tolist() == pytest.approx([1.0] * 6)


def test_bad_input_is_refused(suite, crosscoder, decomposed):
    own = {"neurons": neurons(crosscoder.origin)}
    with pytest.raises(CrosscoderError, match="at least one dictionary"):
        baselines(suite, crosscoder, decomposed, {})
    with pytest.raises(CrosscoderError, match="none of them named 'crosscoder'"):
        baselines(suite, crosscoder, decomposed, {"crosscoder": crosscoder})
    with pytest.raises(CrosscoderError, match="ascending"):
        baselines(suite, crosscoder, decomposed, own, sizes=[2, 1])
    with pytest.raises(CrosscoderError, match="two halves need at least 4"):
        baselines(suite, crosscoder, select_prompts(decomposed, [0, 1, 2]), own)
    other = {"neurons": neurons(replace(crosscoder.origin, site=Site(1)))}
    with pytest.raises(CrosscoderError, match=r"'neurons' is for step0, step10, step40 at resid\.1"):
        baselines(suite, crosscoder, decomposed, other)
    state = Baseline.mean(decomposed.clean[0])
    with pytest.raises(CrosscoderError, match="given by name"):
        baselines(suite, crosscoder, decomposed, own, estimator=Estimator(baseline=state))
