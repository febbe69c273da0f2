"""Logit effects of decoder directions, against the model's own norm and unembedding."""

from __future__ import annotations

import pytest
import torch

import crosstime as ct
from crosstime.errors import CrosscoderError
from crosstime.features.logit_effects import logit_effects
from crosstime.suites.token_text import token_text
from interventions import readout
from interventions.errors import ShapeError
from interventions.logit_lens import _subtracts_mean


@pytest.fixture(scope="module")
def features() -> list[int]:
    return [3, 17, 0]


def test_effects_are_what_the_direction_alone_gives_the_logits(learning_suite, learning_crosscoder, features):
    # Of a stream x = t d with t large, the norm makes g * centred(d) / size(d), plus its bias.
    table = logit_effects(learning_suite, learning_crosscoder, features, top=5)
    for c, revision in enumerate(learning_suite.revisions):
        with ct.Compute().open(learning_suite, revision) as model:
            module = model.module
            norm, head = module.gpt_neox.final_layer_norm, module.get_output_embeddings()
            for feature in features:
                direction = learning_crosscoder.W_dec[feature, c].detach() / learning_crosscoder.scales[c]
                with torch.no_grad():
                    size = (direction - direction.mean()).std(correction=0)
                    expected = head((norm(1e4 * direction) - norm.bias) * size)
                expected = expected - expected.mean()
                rows = table[(table["feature"] == feature) & (table["revision"] == revision)]
                for side, largest in (("promoted", True), ("suppressed", False)):
                    side_rows = rows[rows["side"] == side].sort_values("rank")
                    values, tokens = expected.topk(5, largest=largest)
                    assert side_rows["effect"].tolist() == pytest.approx(values.tolist(), rel=1e-2, abs=1e-5)
                    words = [token_text(learning_suite.tokenizer, token) for token in tokens.tolist()]
                    assert side_rows["token"].iloc[0] == words[0]


def test_without_the_norm_it_is_the_unembedding_times_the_direction(learning_suite, learning_crosscoder):
    with ct.Compute().open(learning_suite, learning_suite.revisions[-1]) as model:
        directions = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(0))
        plain = directions @ model.unembedding.weight.T
        effects = readout(model, directions, fold_norm=False)
        assert torch.allclose(effects, plain - plain.mean(-1, keepdim=True), atol=1e-5)
        assert effects.mean(-1).abs().max() < 1e-5
        with pytest.raises(ShapeError, match="width 3, but"):
            readout(model, torch.zeros(1, 3))


def test_effects_scale_with_the_direction_and_do_not_depend_on_the_batch(learning_suite, learning_crosscoder, features):
    single = logit_effects(learning_suite, learning_crosscoder, features[:1], top=3)
    many = logit_effects(learning_suite, learning_crosscoder, features, top=3)
    assert many[many["feature"] == features[0]]["token"].tolist() == single["token"].tolist()
    assert (single[single["side"] == "promoted"]["effect"] > 0).all()
    assert (single[single["side"] == "suppressed"]["effect"] < 0).all()


def test_a_feature_that_does_not_exist_and_no_tokens_at_all_are_refused(learning_suite, learning_crosscoder):
    with pytest.raises(CrosscoderError, match=r"no feature 24: the crosscoder has 0 to 23"):
        logit_effects(learning_suite, learning_crosscoder, [24])
    with pytest.raises(CrosscoderError, match="top must be at least 1"):
        logit_effects(learning_suite, learning_crosscoder, [0], top=0)


@torch.no_grad()
def test_an_rms_norm_is_not_centred_and_a_layer_norm_is():
    probe = torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    assert _subtracts_mean(torch.nn.LayerNorm(32), probe)
    assert not _subtracts_mean(torch.nn.RMSNorm(32), probe)
