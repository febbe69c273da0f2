"""Faithfulness of nested sets, and transplants, against bare models with forward hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import crosstime as ct
from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.effects.faithfulness import Restoration, ranking
from crosstime.errors import CrosscoderError
from interventions import Bootstrap, Estimator, FeatureError, Site
from tasks.agreement import sentences

SMALL = ct.TinyConfig(
    d_model=16, n_layers=2, n_heads=2, sequence_length=16, batch_tokens=256, steps=40, checkpoints=(0, 40), lr=1e-2,
    warmup=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> ct.Suite:
    folder = tmp_path_factory.mktemp("sufficiency") / "mine"
    return ct.train_tiny_suite(folder, sentences(1500, seed=0), SMALL)


@pytest.fixture(scope="module")
def crosscoder(suite) -> ct.CrossCoder:
    config = ct.L1Config(n_features=20, steps=60, lr=1e-2, l1=0.2)
    text = list(sentences(300, seed=1))
    return ct.train(suite, Site(0), text, config, data=ct.DataConfig(batch_size=64, sequence_length=12)).crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=10)
    return ct.attribute(suite, crosscoder, task, Estimator(steps=2))


def bare(suite, decomposed: DecomposedTask, revision: str, x: torch.Tensor) -> np.ndarray:
    """logit(wrong) - logit(right) of each prompt with activations x after block 0, one prompt at a time."""
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    out, start = [], 0
    for ids, right, wrong in zip(decomposed.task.prompts, decomposed.task.right, decomposed.task.wrong, strict=True):
        put = x[start : start + len(ids)].unsqueeze(0)
        start += len(ids)
        handle = model.gpt_neox.layers[0].register_forward_hook(lambda module, args, output, put=put: put)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        handle.remove()
        out.append((logits[wrong] - logits[right]).item())
    return np.array(out)


def parts(crosscoder, decomposed: DecomposedTask, c: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dense codes, directions in the model's scale, and the error, from the crosscoder's own weights."""
    codes = decomposed.clean[0].codes.dense()
    directions = crosscoder.W_dec.detach()[:, c] / crosscoder.scales[c]
    bias = crosscoder.b_dec.detach()[c] / crosscoder.scales[c]
    return codes, directions, decomposed.clean[c].x - codes @ directions - bias


@pytest.mark.parametrize("keep_error", [True, False])
def test_faithfulness_and_completeness_are_those_of_bare_models(suite, crosscoder, attribution, keep_error):
    ranked = ranking(attribution, 6)
    decomposed = attribution.decomposed
    restoration = Restoration(sizes=[1, 3], keep_error=keep_error)
    found = ct.faithfulness(suite, crosscoder, decomposed, ranked, restoration=restoration, bootstrap=Bootstrap(50))
    for c, revision in enumerate(suite.revisions):
        codes, directions, error = parts(crosscoder, decomposed, c)
        bias = crosscoder.b_dec.detach()[c] / crosscoder.scales[c]
        mean, left = codes.mean(0).expand_as(codes), error if keep_error else error.mean(0).expand_as(error)
        full = bare(suite, decomposed, revision, decomposed.clean[c].x).mean()
        empty = bare(suite, decomposed, revision, mean @ directions + bias + left).mean()
        for n in (1, 3):
            chosen = ranked[revision][:n]
            only, without = mean.clone(), codes.clone()
            only[:, chosen], without[:, chosen] = codes[:, chosen], mean[:, chosen]
            kept = bare(suite, decomposed, revision, only @ directions + bias + left).mean()
            ablated = bare(suite, decomposed, revision, without @ directions + bias + error).mean()
            row = found[(found.revision == revision) & (found.n == n)].iloc[0]
            assert row.faithfulness == pytest.approx((kept - empty) / (full - empty), abs=2e-3)
            assert row.completeness == pytest.approx((ablated - empty) / (full - empty), abs=2e-3)
            assert row.faithfulness_low <= row.faithfulness_high


def test_ranking_is_by_size_of_effect_and_leaves_out_features_without(attribution):
    ie = attribution.ie().abs()
    for c, (revision, ranked) in enumerate(ranking(attribution, 100).items()):
        assert revision == attribution.revisions[c]
        sizes = [ie[c, feature].item() for feature in ranked]
        assert sizes == sorted(sizes, reverse=True)
        assert set(ranked) == set(ie[c].nonzero().squeeze(1).tolist())


def test_transplant_replaces_the_targets_directions_by_the_sources(suite, crosscoder, attribution):
    decomposed, features = attribution.decomposed, attribution.top(2)
    found = ct.transplant(
        suite, crosscoder, decomposed, {"top": features}, source="step40", target="step0", bootstrap=Bootstrap(50)
    )
    codes = decomposed.clean[0].codes.dense()[:, features]
    late, early = (crosscoder.W_dec.detach()[features, c] / crosscoder.scales[0] for c in (1, 0))
    x = decomposed.clean[0].x
    clean, moved = (bare(suite, decomposed, "step0", each) for each in (x, x + codes @ (late - early)))
    row = found.iloc[0]
    assert row.logit_difference == pytest.approx(-moved.mean(), abs=1e-4)
    assert row.logit_difference_change == pytest.approx(-(moved - clean).mean(), abs=1e-4)
    assert row.accuracy == pytest.approx((moved < 0).mean())
    assert row.low <= row.logit_difference_change <= row.high


def test_a_checkpoint_transplanted_into_itself_changes_nothing(suite, crosscoder, attribution):
    found = ct.transplant(
        suite, crosscoder, attribution.decomposed, attribution.top(2), source="step40", target="step40"
    )
    assert found.logit_difference_change.abs().max() < 1e-5
    assert (found.accuracy_change == 0).all()


def test_bad_input_is_one_sentence(suite, crosscoder, attribution):
    decomposed = attribution.decomposed
    with pytest.raises(CrosscoderError, match="no checkpoint 'step4': did you mean 'step40'"):
        ct.transplant(suite, crosscoder, decomposed, [1], source="step4", target="step0")
    with pytest.raises(CrosscoderError, match="no features to transplant"):
        ct.transplant(suite, crosscoder, decomposed, [], source="step40", target="step0")
    with pytest.raises(FeatureError, match="Feature 20 does not exist"):
        ct.transplant(suite, crosscoder, decomposed, [20], source="step40", target="step0")
    with pytest.raises(CrosscoderError, match="no ranking for step40"):
        ct.faithfulness(suite, crosscoder, decomposed, {"step0": [1]})
    with pytest.raises(CrosscoderError, match="no baseline 'means': did you mean 'mean'"):
        Restoration(baseline="means")
