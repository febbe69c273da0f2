"""Likelihoods of pairs, whose shared beginning runs once, against plain transformers with one sequence at a time."""

from __future__ import annotations

import importlib

import pytest
import torch
from families import FAMILIES, build

from interventions import InterventionError, Model, Sequences, ShapeError, log_likelihoods, pair_log_likelihoods

PAIRS = [
    ((2, 7, 9, 30), (2, 7, 11, 30)),  # they differ in the middle
    ((2, 7, 9), (2, 7, 8)),  # in the last token
    ((2, 5, 5, 6, 9, 4), (2, 17, 5)),  # in the second, with rests of other lengths
    ((2, 40, 41), (2, 40, 41, 42, 43)),  # one begins the other
    ((2, 40, 41, 42), (2, 40)),
    ((2, 33, 34), (2, 33, 34)),  # not at all
    ((2,), (2,)),
    ((2, 59, 4, 4, 11, 23, 8, 3, 3), (2, 59, 4, 4, 11, 23, 8, 5, 3)),
    ((2, 7, 9), (2, 7, 8)),  # the second pair again
]
RIGHT, WRONG = (Sequences(tuple(pair[side] for pair in PAIRS)) for side in (0, 1))


def summed(plain: torch.nn.Module, ids: tuple[int, ...]) -> float:
    """Log-likelihood of one sequence, run alone in double precision."""
    rows = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(rows[t - 1, ids[t]].item() for t in range(1, len(ids)))


@pytest.mark.parametrize("max_tokens", [4096, 8])
def test_a_pair_has_the_likelihoods_of_its_two_sequences(tiny, monkeypatch, architecture, max_tokens):
    model, plain = tiny(architecture)
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    actual = pair_log_likelihoods(model, RIGHT, WRONG)
    for sequences, values in zip((RIGHT, WRONG), actual, strict=True):
        assert values.tolist() == pytest.approx([summed(plain, ids) for ids in sequences.ids], abs=2e-4)


@pytest.mark.parametrize("name", ["bloom", "gpt_neox", "olmo2"])
def test_the_shared_beginning_runs_once(tiny, monkeypatch, name):
    model, _ = tiny(name)
    assert model.continues_from_tokens
    module, counts = importlib.import_module("interventions.pair_log_likelihoods"), []
    run = module.run

    def counting(model, batch, *, n_slots=None, **options):
        counts.append(int(batch.mask[:, slice(0 if n_slots is None else -n_slots, None)].sum()))
        return run(model, batch, n_slots=n_slots, **options)

    monkeypatch.setattr(module, "run", counting)
    pair_log_likelihoods(model, RIGHT, WRONG)
    expected = 0
    for right, wrong in dict.fromkeys(PAIRS):
        shared = next((i for i, pair in enumerate(zip(right, wrong, strict=False)) if pair[0] != pair[1]), None)
        shared = min(len(right), len(wrong)) if shared is None else shared
        expected += shared + sum(max(0, len(ids) - shared - 1) for ids in (right, wrong))
    assert sum(counts) == expected


def test_equal_sequences_are_a_tie_and_equal_pairs_are_equal(tiny):
    right, wrong = pair_log_likelihoods(tiny("gpt_neox").model, RIGHT, WRONG)
    assert right[5] == wrong[5] < 0
    assert right[6] == wrong[6] == 0
    assert (right[1], wrong[1]) == (right[8], wrong[8])


@pytest.mark.parametrize("room", [1, 700, 2_000])
def test_pairs_are_run_in_groups_whose_keys_and_values_have_room(tiny, monkeypatch, room):
    model, plain = tiny("olmo")
    monkeypatch.setattr(importlib.import_module("interventions.pair_log_likelihoods"), "MAX_BYTES", room)
    right, _ = pair_log_likelihoods(model, RIGHT, WRONG)
    assert right.tolist() == pytest.approx([summed(plain, ids) for ids in RIGHT.ids], abs=2e-4)


@pytest.mark.parametrize("name", ["gemma3_text", "mistral", "mamba", "qwen3_next", "gemma2"])
def test_models_that_keep_no_keys_and_values_or_only_some_have_the_same_likelihoods(name, tokenizer):
    model_type, settings = FAMILIES[name]
    model = Model.wrap(build(model_type, settings), tokenizer)
    right, wrong = pair_log_likelihoods(model, RIGHT, WRONG)
    torch.testing.assert_close(right, log_likelihoods(model, RIGHT), rtol=0, atol=2e-4)
    torch.testing.assert_close(wrong, log_likelihoods(model, WRONG), rtol=0, atol=2e-4)


def test_sequences_that_share_no_token_are_run_in_whole(tiny):
    model, plain = tiny("gpt_neox")
    right, wrong = Sequences(((2, 7), (4, 5, 6))), Sequences(((3, 7), (4, 5, 7)))
    actual = torch.cat(pair_log_likelihoods(model, right, wrong)).tolist()
    assert actual == pytest.approx([summed(plain, ids) for ids in (*right.ids, *wrong.ids)], abs=2e-4)


def test_pairs_that_do_not_fit_are_refused(tiny):
    model, _ = tiny("gpt_neox")
    with pytest.raises(ShapeError, match="2 right sequences need as many wrong ones; got 1"):
        pair_log_likelihoods(model, Sequences(((2, 3), (2, 4))), Sequences(((2, 3),)))
    with pytest.raises(InterventionError, match="has token 1000000"):
        pair_log_likelihoods(model, Sequences(((2, 3),)), Sequences(((2, 10**6),)))
