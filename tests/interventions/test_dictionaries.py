"""Any dictionary goes into interventions by one call: its decomposition is what the dictionary itself computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from seeded_randn import randn

from interventions import Decomposition, decomposition
from interventions.errors import InterventionError, ShapeError

pytest.importorskip("dictionary_learning", reason="dictionary-learning is not installed")
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK

T, D, F = 50, 6, 11


X = randn(T, D, seed=1)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    for number, parameter in enumerate(module.parameters()):
        parameter.data = randn(*parameter.shape, seed=10 + number)
    return module


MODULES = (
    AutoEncoder(D, F),
    AutoEncoderNew(D, F),
    GatedAutoEncoder(D, F),
    JumpReluAutoEncoder(D, F),
    AutoEncoderTopK(D, F, k=3),
    BatchTopKSAE(D, F, k=3),
)


@pytest.mark.parametrize("units", [1 << 22, 25])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_dictionary_of_dictionary_learning_is_decomposed_as_it_computes(module, units: int, monkeypatch):
    monkeypatch.setattr(decomposition, "_UNITS", units)
    module = randomised(module)
    result = Decomposition.of(module, X)
    with torch.no_grad():
        codes, reconstruction = module.encode(X), module(X)
    torch.testing.assert_close(result.codes.dense(), codes)
    torch.testing.assert_close(result.reconstruction, reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.codes.dense() @ result.directions + result.bias + result.error, X)
    weight = module.W_dec if hasattr(module, "W_dec") else module.decoder.weight.T
    torch.testing.assert_close(result.directions, weight.detach(), rtol=1e-4, atol=1e-5)


def test_no_feature_fires_on_a_fixed_token():
    fixed = torch.zeros(T, dtype=torch.bool)
    fixed[[0, 7]] = True
    result = Decomposition.of(randomised(AutoEncoder(D, F)), X, fixed=fixed)
    assert not result.codes.dense()[fixed].any()
    assert result.codes.dense()[~fixed].any()


def test_a_decoder_that_is_no_affine_function_is_refused():
    module = randomised(AutoEncoder(D, F))
    squared = SimpleNamespace(encode=module.encode, decode=lambda codes: module.decode(codes) ** 3)
    with pytest.raises(InterventionError, match="is no affine function of its codes: its reconstruction differs by"):
        Decomposition.of(squared, X)


def test_shapes_that_do_not_fit_are_named():
    module = randomised(AutoEncoder(D, F))
    flat = SimpleNamespace(encode=lambda x: module.encode(x).sum(1), decode=module.decode)
    with pytest.raises(ShapeError, match=r"must encode T tokens to T F codes, not to shape \(1,\)"):
        Decomposition.of(flat, X)
    wide = SimpleNamespace(encode=module.encode, decode=lambda codes: torch.cat([module.decode(codes)] * 2, 1))
    with pytest.raises(ShapeError, match=r"must decode codes to 6 numbers, not to shape \(12,\)"):
        Decomposition.of(wide, X)
