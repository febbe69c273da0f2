"""Nothing with a gradient is as large as prompts x positions x features."""

from __future__ import annotations

import plain_torch
import pytest
import torch

from interventions import Baseline, Codes, Decomposition, Estimator, Prompts, Site, fetch, indirect_effects

F = 1009
"""A prime, so that no other size in the model is a multiple of it."""


@pytest.fixture
def saved():
    """Shapes of everything that autograd keeps for a backward pass."""
    shapes: list[tuple[int, ...]] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(value.shape))
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        yield shapes


def has_features(shape: tuple[int, ...]) -> bool:
    return any(size >= F and size % F == 0 for size in shape)


@pytest.fixture
def wide():
    return plain_torch.Dictionary(16, F)


def decomposition(model, sequences, dictionary) -> Decomposition:
    x = fetch(model, sequences, [Site(1)])[Site(1)]
    codes = Codes.from_dense(dictionary.encode(x))
    return Decomposition(x, codes, dictionary.directions.float(), dictionary.bias.float())


@pytest.mark.parametrize("method", ["ig", "atp"])
@pytest.mark.parametrize("patched", [False, True], ids=["zero", "patch"])
def test_no_tensor_with_a_gradient_has_a_feature_axis(tiny, prompts, wide, saved, method, patched):
    model, _ = tiny("gpt_neox")
    clean = decomposition(model, prompts, wide)
    baseline = Baseline.patch(decomposition(model, prompts.patched, wide)) if patched else "zero"
    saved.clear()
    indirect_effects(model, prompts, Site(1), clean, Estimator(method, baseline))
    assert len(saved) > 10
    # Only the decoder itself is saved, once: the inner products are the backward pass of decoding.
    assert [shape for shape in saved if has_features(shape)] == [(F, 16)]


def test_dense_codes_with_a_gradient_would_be_noticed(tiny, prompts, wide, saved):
    _, plain = tiny("gpt_neox")
    plain_torch.gradient_effects(plain, wide, 1, prompts.ids[0], None, prompts.right[0], prompts.wrong[0], [0.0], [1.0])
    assert any(has_features(shape) for shape in saved)


def test_layers_below_the_site_are_not_run(tiny, prompts: Prompts, wide):
    model, _ = tiny("llama")
    clean = decomposition(model, prompts, wide)
    ran = []
    layers = plain_torch.blocks(model.module)
    handles = [layers[layer].mlp.register_forward_hook(lambda *_, layer=layer: ran.append(layer)) for layer in range(3)]
    indirect_effects(model, prompts, Site(1), clean, Estimator(steps=2))
    for handle in handles:
        handle.remove()
    assert set(ran) == {2}


def test_no_parameter_gets_a_gradient(tiny, prompts, wide):
    model, _ = tiny("bloom")
    indirect_effects(model, prompts, Site(1), decomposition(model, prompts, wide), Estimator(steps=2))
    assert all(weight.grad is None and not weight.requires_grad for weight in model.module.parameters())
