from __future__ import annotations

import torch

from crosstime.training.direction_norms import total_norms


def test_value_and_gradient_are_those_of_autograd_on_the_formula():
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(7, 3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(7, dtype=torch.float64, generator=generator)
    expected = directions.square().sum(-1).sqrt().sum(-1)
    norms = total_norms(directions)
    torch.testing.assert_close(norms, expected)
    (gradient,) = torch.autograd.grad(weights @ norms, directions)
    (by_formula,) = torch.autograd.grad(weights @ expected, directions)
    torch.testing.assert_close(gradient, by_formula)


def test_a_direction_of_length_zero_has_no_gradient():
    directions = torch.zeros(2, 1, 3)
    directions[1, 0, 0] = 2.0
    directions.requires_grad_()
    total_norms(directions).sum().backward()
    assert directions.grad.tolist() == [[[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]]
