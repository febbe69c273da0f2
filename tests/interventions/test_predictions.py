"""Predictions of every token, and whole sequences' likelihoods, against plain transformers loops."""

from __future__ import annotations

import importlib

import pytest
import torch

from interventions import InterventionError, Sequences, log_likelihoods, reduce_predictions
from interventions.model import Model

TEXT = Sequences(((2, 7, 9, 30), (2, 5), (2,), (2, 59, 4, 4, 11, 23, 8), (2, 44, 17)))


def log_probs_of(plain: torch.nn.Module, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities after each token of one sequence, run alone in double precision."""
    return plain(torch.tensor([ids])).logits[0].log_softmax(-1)


@pytest.mark.parametrize("max_tokens", [4096, 8])
def test_a_log_likelihood_is_the_sum_over_all_tokens_but_the_first(tiny, monkeypatch, architecture, max_tokens):
    model, plain = tiny(architecture)
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    actual = log_likelihoods(model, TEXT)
    for ids, value in zip(TEXT.ids, actual.tolist(), strict=True):
        rows = log_probs_of(plain, ids)
        assert value == pytest.approx(sum(rows[t - 1, ids[t]].item() for t in range(1, len(ids))), abs=2e-4)


def test_a_soft_cap_on_the_logits_is_applied(tiny):
    model, plain = tiny("gemma2")
    assert not model.head_is_linear
    rows = log_probs_of(plain, TEXT.ids[0])
    expected = sum(rows[t - 1, token].item() for t, token in enumerate(TEXT.ids[0]) if t)
    assert log_likelihoods(model, TEXT)[0].item() == pytest.approx(expected, abs=2e-4)


def test_a_sequence_of_one_token_has_likelihood_one(tiny):
    model, _ = tiny("gpt_neox")
    assert log_likelihoods(model, TEXT)[2].item() == 0.0
    assert log_likelihoods(model, Sequences(((2,), (3,)))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("limit", [1 << 24, 60, 1])
def test_the_prediction_of_every_token_is_reduced_whatever_the_size_of_chunks(tiny, monkeypatch, limit):
    # The package's attribute of this name is the function
    module = importlib.import_module("interventions.reduce_predictions")
    monkeypatch.setattr(module, "MAX_LOG_PROBS", limit)
    model, plain = tiny("olmo")

    def reduce(log_probs, tokens):
        assert log_probs.shape == (len(tokens), model.vocab_size)
        return torch.stack([-(log_probs.exp() * log_probs).sum(1), tokens.float()], 1)

    actual = reduce_predictions(model, TEXT, reduce, 2)
    first = TEXT.position_of_token == 0
    assert actual[first].isnan().all()
    assert torch.equal(actual[~first, 1], torch.arange(TEXT.n_tokens)[~first].float())
    expected = []
    for ids in TEXT.ids:
        rows = log_probs_of(plain, ids)[:-1]
        expected += (-(rows.exp() * rows).sum(1)).tolist()
    assert actual[~first, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_nan_of_the_model_stays_nan(module_of, tokenizer):
    module = module_of("gpt2")
    model = Model.wrap(module, tokenizer)
    with torch.no_grad():
        module.lm_head.weight[:] = torch.nan
    assert log_likelihoods(model, Sequences(((2, 7),))).isnan().all()


def test_a_token_outside_the_vocabulary_is_named(tiny):
    with pytest.raises(InterventionError, match="has token 60"):
        log_likelihoods(tiny("gpt_neox").model, Sequences(((2, 60),)))


@pytest.mark.parametrize("max_tokens", [7, 12, 33, 4096])
def test_the_same_tokens_have_exactly_the_same_likelihood_in_every_batch(tiny, monkeypatch, max_tokens):
    model, plain = tiny("gpt_neox")
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    generator = torch.Generator().manual_seed(0)
    rows = [(2, *torch.randint(4, 59, (3 + index % 5,), generator=generator).tolist()) for index in range(30)]
    repeated = log_likelihoods(model, Sequences((*rows, *reversed(rows), rows[4])))
    assert torch.equal(repeated[:30], repeated[30:60].flip(0))
    assert repeated[60] == repeated[4]
    for ids, value in zip(rows, repeated.tolist(), strict=False):
        log_probs = log_probs_of(plain, ids)
        assert value == pytest.approx(sum(log_probs[t - 1, ids[t]].item() for t in range(1, len(ids))), abs=2e-4)
