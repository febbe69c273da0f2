"""Crosscoders with random weights, for tests of file formats: every kind, of one to three checkpoints."""

from __future__ import annotations

import torch
from seeded_randn import randn
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, BatchTopK, JumpReLU, ReLU, TopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from interventions import Site

D, F, T = 6, 15, 40
REVISIONS = {1: ("main",), 2: ("step64", "main"), 3: ("step1-tokens4M", "step9-tokens36M", "main")}


def activation_named(name: str) -> Activation:
    if name == "relu":
        return ReLU()
    if name == "topk":
        return TopK(F, k=4)
    if name == "batchtopk":
        activation = BatchTopK(F, k=4)
        activation.threshold.fill_(1.5)
        return activation
    activation = JumpReLU(F)
    with torch.no_grad():
        activation.log_threshold.copy_((0.7 + randn(F, seed=9).abs()).log())
    return activation


def crosscoder_of(n: int, name: str = "relu", *, scaled: bool = True) -> CrossCoder:
    scales = torch.tensor([0.5, 2.0, 1.25])[:n] if scaled else None
    origin = Origin("tiny", REVISIONS[n], Site(2), D, {"seed": 7, "l1": 0.5})
    crosscoder = CrossCoder(origin, F, scales, activation=activation_named(name), seed=3)
    with torch.no_grad():
        for number, (_, parameter) in enumerate(crosscoder.named_parameters()):
            if parameter is not getattr(crosscoder.activation, "log_threshold", None):
                parameter.copy_(randn(*parameter.shape, seed=20 + number) * 0.7)
    return crosscoder.eval()


def activations(n: int) -> Tensor:
    return randn(T, n, D, seed=5)


def same_function(actual: CrossCoder, expected: CrossCoder, *, same_codes: bool = True) -> None:
    x = activations(expected.n_checkpoints)
    codes = expected.encode(x)
    assert 0.05 < (codes > 0).float().mean() < 0.95
    if same_codes:
        torch.testing.assert_close(actual.encode(x), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual(x), expected(x), rtol=1e-4, atol=1e-5)
