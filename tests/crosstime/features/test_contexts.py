"""The prompts and texts on a feature's card: the strongest, with its own activation and effect at every token."""

from __future__ import annotations

import pytest
import torch

import crosstime as ct
from crosstime.crosscoders.decompose import decompose_text
from crosstime.features.activation_statistics import density
from crosstime.features.contexts import contexts, corpus_contexts
from crosstime.suites.text_sample import TextSample
from interventions import Estimator, Sequences
from tasks.agreement import sentences

FEATURES = list(range(24))


@pytest.fixture(scope="module")
def attribution(learning_suite, learning_crosscoder):
    task = ct.tasks.load("agreement/simple", limit=20)
    return ct.attribute(learning_suite, learning_crosscoder, task, Estimator(steps=4))


def test_contexts_are_the_prompts_with_the_largest_activations(attribution, learning_suite):
    decomposed = attribution.decomposed
    codes, prompts = decomposed.clean[0].codes, decomposed.prompts
    dense = torch.zeros(codes.n_tokens, codes.n_features)
    dense[codes.token, codes.feature] = codes.value.float()
    contexts_of = contexts(decomposed, FEATURES, learning_suite.tokenizer, most=3)
    assert any(contexts_of.values())
    for feature, feature_contexts in contexts_of.items():
        peaks = sorted(dense[prompts.sequence_of_token == i, feature].max().item() for i in range(len(prompts)))[::-1]
        assert [context.peak for context in feature_contexts] == pytest.approx([peak for peak in peaks[:3] if peak > 0])
        assert all(context.effects == {} for context in feature_contexts)


def test_the_effects_at_a_prompts_tokens_sum_to_the_features_effect_on_it(attribution, learning_suite):
    decomposed = attribution.decomposed
    contexts_of = contexts(decomposed, FEATURES, learning_suite.tokenizer, attribution=attribution, most=20)
    texts = ["".join(learning_suite.tokenizer.decode([t]) for t in ids) for ids in decomposed.prompts.ids]
    compared = 0
    for feature, feature_contexts in contexts_of.items():
        for context in feature_contexts:
            if texts.count("".join(context.tokens)) > 1:
                continue
            prompt = texts.index("".join(context.tokens))
            for c, revision in enumerate(attribution.revisions):
                expected = attribution.effects[c].per_prompt([feature])[prompt, 0].item()
                assert sum(context.effects[revision]) == pytest.approx(expected, abs=1e-5)
                compared += abs(expected) > 1e-6
    assert compared > 10


def test_corpus_contexts_are_windows_around_the_strongest_token(learning_suite, learning_crosscoder):
    documents = list(sentences(200, seed=5))
    text = decompose_text(learning_suite, learning_crosscoder, documents, sample=TextSample(12, 30))
    codes = text.codes
    per_token = torch.zeros(codes.n_tokens, codes.n_features)
    per_token[codes.token, codes.feature] = codes.value.float()
    contexts_of = corpus_contexts(text, FEATURES, learning_suite.tokenizer, most=2, window=4)
    assert any(contexts_of.values())
    for feature, feature_contexts in contexts_of.items():
        assert len(feature_contexts) <= 2
        for context in feature_contexts:
            assert context.source == "corpus"
            assert len(context.tokens) <= 9
        if feature_contexts:
            assert feature_contexts[0].peak == pytest.approx(per_token[:, feature].max().item())


def test_an_excerpt_that_is_repeated_is_shown_once(learning_suite, learning_crosscoder):
    once = Sequences([(5, 9, 7, 3), (5, 8, 2, 6)])
    twice = Sequences([*once.ids, *once.ids, once.ids[0]])
    texts = [decompose_text(learning_suite, learning_crosscoder, sequences) for sequences in (once, twice)]
    expected, repeated = (corpus_contexts(text, FEATURES, learning_suite.tokenizer) for text in texts)
    assert any(expected.values())
    for feature in FEATURES:
        excerpts = [context.tokens for context in repeated[feature]]
        assert excerpts == [context.tokens for context in expected[feature]]


def test_density_is_the_share_of_tokens_on_which_a_feature_fires(attribution):
    codes = attribution.decomposed.clean[0].codes
    dense = torch.zeros(codes.n_tokens, codes.n_features)
    dense[codes.token, codes.feature] = codes.value.float()
    assert torch.allclose(density(codes), (dense != 0).double().mean(0))
    assert 0 < density(codes).max() <= 1
