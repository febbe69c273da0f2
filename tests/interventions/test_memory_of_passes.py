"""A stopped pass leaves no tensors behind, although nnsight's early-stop exception forms a reference cycle."""

from __future__ import annotations

import gc

import pytest
import torch

from interventions import Prompts, Site, fetch, score
from interventions.upward import Upward


@pytest.fixture
def without_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def tensors() -> int:
    return sum(issubclass(type(referent), torch.Tensor) for referent in gc.get_objects())


def test_repeated_passes_leave_no_tensors_for_the_garbage_collector(tiny, architecture, without_collection):
    model, _ = tiny(architecture)
    prompts = Prompts(((5, 6, 7), (8, 9)), right=(3, 4), wrong=(4, 3))
    everything = torch.randn(prompts.n_tokens, model.d_model, generator=torch.Generator().manual_seed(0))

    def passes() -> None:
        fetch(model, prompts, [Site(1)])
        score(model, prompts, "logit_difference")
        score(model, prompts, edits={Site(1): torch.zeros_like})
        Upward(model, prompts, Site(1), "logit_difference").score(everything)

    passes()
    gc.collect()
    before = tensors()
    for _ in range(3):
        passes()
    assert tensors() <= before
