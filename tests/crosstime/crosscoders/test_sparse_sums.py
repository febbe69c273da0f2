from __future__ import annotations

import pytest
import torch

from crosstime.crosscoders.sparse_codes import ActiveCodes, encode_at, top_k_of_batch, top_k_per_row

B, D, F, K = 13, 5, 11, 3


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def both_ways(indices: torch.Tensor) -> list[list[torch.Tensor]]:
    """Output and gradients of encode, decode and a loss: by entries, and by dense autograd."""
    results = []
    for sparse in (True, False):
        weights = [numbers(*shape, seed=seed) for seed, shape in enumerate([(D, F), (F,), (F, D)], start=1)]
        encoder, bias, directions = (weight.requires_grad_() for weight in weights)
        x = numbers(B, D)
        if sparse:
            with torch.no_grad():
                pre = x @ encoder + bias
            active = encode_at(x, encoder, pre, bias, indices)
            out = active.decode(directions)
            torch.testing.assert_close(out, active.dense() @ directions)
        else:
            mask = torch.zeros(B * F, dtype=torch.float64)
            mask[indices] = 1
            out = ((x @ encoder + bias).relu() * mask.reshape(B, F)) @ directions
        (out**3).sum().backward()
        results.append([out.detach(), encoder.grad, bias.grad, directions.grad])
    return results


@pytest.mark.parametrize("count", [0, 1, 20, B * F])
def test_forward_and_every_gradient_are_those_of_dense_autograd(count: int):
    indices = torch.randperm(B * F, generator=torch.Generator().manual_seed(4))[:count].sort().values
    for actual, expected in zip(*both_ways(indices), strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_top_k_per_row_row_is_that_of_sorting_it():
    weighted = numbers(B, F)
    expected = [
        row * F + column
        for row in range(B)
        for column in sorted(sorted(range(F), key=lambda i: -weighted[row, i].item())[:K])
    ]
    assert top_k_per_row(weighted, K).tolist() == expected


@pytest.mark.parametrize("shape", [(7, 9), (300, 500)])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 1.0])
def test_the_top_k_of_batch_is_that_of_sorting_all(shape: tuple[int, int], share: float):
    weighted = numbers(*shape)
    count = int(share * weighted.numel())
    expected = weighted.flatten().argsort(descending=True)[:count].sort().values
    assert torch.equal(top_k_of_batch(weighted, count), expected)


def test_the_top_k_of_batch_holds_where_the_sample_misleads():
    weighted = torch.zeros(300, 500)
    weighted.view(-1)[::61] = 1.0  # all that the sample sees is large
    actual = top_k_of_batch(weighted, 5000)
    assert len(actual) == 5000
    assert weighted.view(-1)[actual].sum() == weighted.sum()


def test_a_feature_has_fired_if_one_of_its_codes_is_above_zero():
    active = ActiveCodes(torch.tensor([0, 0, 1]), torch.tensor([2, 0, 2]), torch.tensor([0.0, 0.0, 3.0]), 2, 4)
    assert active.fired().tolist() == [False, False, True, False]
