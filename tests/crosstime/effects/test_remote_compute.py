"""Checkpoints that run in a simulation of a server give the tables of those that run here."""

from __future__ import annotations

import pytest
import torch

import crosstime as ct
from crosstime.suites.text_sample import TextSample
from interventions import Remote


@pytest.mark.long
def test_effects_and_ablations_through_the_simulation_equal_local_ones(learning_suite, learning_crosscoder):
    task = ct.tasks.load("agreement/simple", limit=6)
    local = ct.attribute(learning_suite, learning_crosscoder, task)
    remote = Remote("local")
    simulated = ct.attribute(learning_suite, learning_crosscoder, task, compute=ct.Compute(remote=remote))
    torch.testing.assert_close(simulated.ie(), local.ie(), rtol=0, atol=1e-5)
    assert local.ie().abs().max() > 1e-4
    assert remote.traffic.requests > 0
    top = local.top(2)
    expected = ct.ablate(learning_suite, learning_crosscoder, local.decomposed, {"top": top})
    table = ct.ablate(
        learning_suite, learning_crosscoder, local.decomposed, {"top": top}, compute=ct.Compute(remote="local")
    )
    for column in ("accuracy", "logit_difference", "logit_difference_change", "low"):
        assert table[column].tolist() == pytest.approx(expected[column].tolist(), abs=1e-5)


@pytest.mark.slow
def test_accuracy_and_similarity_through_the_simulation_equal_local_ones(learning_suite):
    task = ct.tasks.load("agreement/simple", limit=6)
    local = ct.accuracy(learning_suite, task, sentences=True)
    simulated = ct.accuracy(learning_suite, task, sentences=True, compute=ct.Compute(remote="local"))
    for column in ("accuracy", "logit_difference", "sentence_difference"):
        assert simulated[column].tolist() == pytest.approx(local[column].tolist(), abs=1e-4)
    text = ["the dog near the cats runs and sleeps today"] * 20
    expected = ct.similarity(learning_suite, ct.Site(0), text, TextSample(2, 8))
    table = ct.similarity(learning_suite, ct.Site(0), text, TextSample(2, 8), compute=ct.Compute(remote="local"))
    assert table["cka"].tolist() == pytest.approx(expected["cka"].tolist(), abs=1e-4)
