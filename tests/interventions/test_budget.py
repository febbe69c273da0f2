"""Batches that do not fit into memory are halved, and give the same results."""

from __future__ import annotations

import copy
from collections.abc import Callable

import plain_torch
import pytest
import torch

from interventions import (
    Estimator,
    Model,
    Prompts,
    Site,
    ablate,
    cross_entropy,
    errors,
    fetch,
    indirect_effects,
    patch,
    score,
)
from interventions.budget import for_each_run


def out_of_memory(kind: str) -> BaseException:
    if kind == "torch":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if kind == "allocator":
        return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    return MemoryError()


@pytest.mark.parametrize("kind", ["torch", "allocator", "python"])
def test_the_budget_is_halved_until_every_run_fits(kind):
    lengths, limit, finished = torch.tensor([1, 1, 2, 2, 3, 3, 4]), 6, []

    def work(run: slice, budget: int) -> None:
        if (run.stop - run.start) * int(lengths[run.stop - 1]) > limit:
            raise out_of_memory(kind)
        finished.extend(range(run.start, run.stop))

    with pytest.warns(RuntimeWarning, match=r"max_tokens=100 did not fit into memory; \d+ did"):
        for_each_run(lengths, 100, work)
    assert finished == list(range(7))


def test_a_single_sequence_that_does_not_fit_is_an_error():
    def work(run: slice, budget: int) -> None:
        raise out_of_memory("torch")

    with pytest.raises(errors.InterventionError, match="Out of memory on a single sequence of 3 tokens"):
        for_each_run(torch.tensor([3, 9]), 100, work)


def test_another_error_is_not_mistaken_for_running_out_of_memory():
    calls = []

    def work(run: slice, budget: int) -> None:
        calls.append(run)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        for_each_run(torch.tensor([3, 9]), 100, work)
    assert len(calls) == 1


@pytest.fixture(scope="module")
def cramped(module_of, tokenizer) -> tuple[Model, list[int]]:
    """A model whose last block runs out of memory above 9 slots, and the sizes of the batches that it refused."""
    module = module_of("gpt_neox")
    model = Model.wrap(module, tokenizer)
    refused: list[int] = []

    def refuse(_module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.shape[0] * hidden.shape[1] > 9:
            refused.append(hidden.shape[0])
            raise out_of_memory("torch")

    plain_torch.blocks(module)[2].register_forward_pre_hook(refuse, with_kwargs=True)
    return model, refused


RUNS: dict[str, Callable] = {
    "fetch": lambda model, prompts, clean: fetch(model, prompts, [Site(2)])[Site(2)],
    "score": lambda model, prompts, clean: score(model, prompts),
    "patch": lambda model, prompts, clean: patch(model, prompts, {Site(1): clean.reconstruction}),
    "cross_entropy": lambda model, prompts, clean: torch.tensor(cross_entropy(model, prompts)),
    "ig": lambda model, prompts, clean: indirect_effects(
        model, prompts, Site(1), clean, Estimator(steps=4)
    ).per_feature(),
    "exact": lambda model, prompts, clean: indirect_effects(
        model, prompts, Site(1), clean, Estimator("exact"), features=[3, 7]
    ).per_feature(),
    "ablate": lambda model, prompts, clean: ablate(model, prompts, Site(1), clean, [3, [7, 21]]).metric,
}


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS)
def test_running_out_of_memory_inside_a_pass_does_not_change_results(cramped, tiny, prompts: Prompts, decompose, run):
    model, refused = cramped
    roomy, _ = tiny("gpt_neox")
    clean = decompose(roomy, prompts)
    expected = RUNS[run](roomy, prompts, copy.copy(clean))
    refused.clear()
    with pytest.warns(RuntimeWarning, match="did not fit into memory"):
        actual = RUNS[run](model, prompts, clean)
    assert refused
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
