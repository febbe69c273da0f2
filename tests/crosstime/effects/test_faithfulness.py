"""Faithfulness and completeness of nested sets, against bare models with forward hooks."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from bare_models import scores_with

import crosstime as ct
from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.effects.faithfulness import Restoration, ranking, sufficiency_curves
from crosstime.errors import CrosscoderError
from interventions import Bootstrap, Estimator, InterventionError, Site, ablate
from interventions.metrics import answered_right


@pytest.fixture(scope="module")
def suite(learning_suite) -> ct.Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder) -> ct.CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=10)
    return ct.attribute(suite, crosscoder, task, Estimator(steps=2))


def dense_decomposition(
    crosscoder: ct.CrossCoder, decomposed: DecomposedTask, c: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dense codes, directions and bias in the model's scale, and the error, from the crosscoder's own weights."""
    codes = decomposed.clean[0].codes.dense()
    directions = crosscoder.W_dec.detach()[:, c] / crosscoder.scales[c]
    bias = crosscoder.b_dec.detach()[c] / crosscoder.scales[c]
    return codes, directions, bias, decomposed.clean[c].x - codes @ directions - bias


@pytest.mark.parametrize("keep_error", [True, False])
def test_faithfulness_and_completeness_are_those_of_bare_models(suite, crosscoder, attribution, keep_error):
    decomposed, ranked = attribution.decomposed, ranking(attribution, 6)
    restoration = Restoration(sizes=[1, 3], keep_error=keep_error)
    table = ct.faithfulness(suite, crosscoder, decomposed, ranked, restoration=restoration, bootstrap=Bootstrap(50))
    for c, revision in enumerate(suite.revisions):
        codes, directions, bias, error = dense_decomposition(crosscoder, decomposed, c)
        mean = codes.mean(0).expand_as(codes)
        base_error = error if keep_error else error.mean(0).expand_as(error)
        full = scores_with(suite, decomposed, revision, decomposed.clean[c].x).mean()
        empty = scores_with(suite, decomposed, revision, mean @ directions + bias + base_error).mean()
        for n in (1, 3):
            top = ranked[revision][:n]
            only, without = mean.clone(), codes.clone()
            only[:, top], without[:, top] = codes[:, top], mean[:, top]
            restored = scores_with(suite, decomposed, revision, only @ directions + bias + base_error).mean()
            ablated = scores_with(suite, decomposed, revision, without @ directions + bias + error).mean()
            row = table[(table.revision == revision) & (table.n == n)].iloc[0]
            assert row.faithfulness == pytest.approx((restored - empty) / (full - empty), rel=2e-3, abs=2e-3)
            assert row.completeness == pytest.approx((ablated - empty) / (full - empty), rel=2e-3, abs=2e-3)
            assert row.faithfulness_low <= row.faithfulness_high


def test_ranking_is_by_size_of_effect_and_leaves_out_features_without(attribution):
    ie = attribution.ie().abs()
    for c, (revision, ranked) in enumerate(ranking(attribution, 100).items()):
        assert revision == attribution.revisions[c]
        sizes = [ie[c, feature].item() for feature in ranked]
        assert sizes == sorted(sizes, reverse=True)
        assert set(ranked) == set(ie[c].nonzero().squeeze(1).tolist())


def test_sufficiency_is_faithfulness_with_accuracy_and_a_random_control(suite, crosscoder, attribution):
    decomposed, ranked = attribution.decomposed, ranking(attribution, 3)
    options = {"restoration": Restoration(sizes=[1, 3]), "bootstrap": Bootstrap(20)}
    plain = ct.faithfulness(suite, crosscoder, decomposed, ranked, **options)
    curves = sufficiency_curves(suite, crosscoder, decomposed, ranked, draws=3, **options)
    top = curves[curves.features == "top"].reset_index(drop=True)
    pd.testing.assert_frame_equal(top[list(plain)], plain, check_exact=False)
    random = curves[curves.features == "random"]
    assert random.groupby("revision").n.apply(list).tolist() == [[1, 3]] * 3
    assert (random.faithfulness_low <= random.faithfulness).all()
    assert (random.faithfulness <= random.faithfulness_high).all()
    assert curves[["accuracy_kept", "accuracy_ablated"]].apply(lambda column: column.between(0, 1).all()).all()

    with ct.Compute().open(suite, "step40") as model:
        mean = decomposed.baseline("mean", 2)
        groups = [ranked["step40"]]
        ablation = ablate(model, decomposed.prompts, Site(0), decomposed.clean[2], groups, baseline=mean)
    row = top[(top.revision == "step40") & (top.n == 3)].iloc[0]
    assert row.accuracy_ablated == pytest.approx(answered_right(ablation.metric[0]).mean().item())


def test_a_checkpoint_without_ranked_features_has_no_row(suite, crosscoder, attribution):
    ranked = {"step0": [], "step10": [], "step40": attribution.top(1)}
    options = {"restoration": Restoration(sizes=[1]), "bootstrap": Bootstrap(20)}
    table = ct.faithfulness(suite, crosscoder, attribution.decomposed, ranked, **options)
    assert table.revision.tolist() == ["step40"]
    nothing = ct.faithfulness(suite, crosscoder, attribution.decomposed, dict.fromkeys(ranked, ()), **options)
    assert nothing.empty
    assert list(nothing) == list(table)


def test_bad_input_is_refused(suite, crosscoder, attribution):
    decomposed, ranked = attribution.decomposed, ranking(attribution)
    with pytest.raises(CrosscoderError, match="no ranking for step10"):
        ct.faithfulness(suite, crosscoder, decomposed, {"step0": [1]})
    with pytest.raises(CrosscoderError, match="no baseline 'means': did you mean 'mean'"):
        Restoration(baseline="means")
    with pytest.raises(CrosscoderError, match="not negative, not -1"):
        sufficiency_curves(suite, crosscoder, decomposed, ranked, draws=-1)
    with pytest.raises(InterventionError, match="sizes"):
        ct.faithfulness(suite, crosscoder, decomposed, ranked, restoration=Restoration(sizes=[0]))
