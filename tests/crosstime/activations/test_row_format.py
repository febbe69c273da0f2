"""Rows of activations in int8 are within half a step of what was encoded, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crosstime.activations.row_format import CHUNK, RowFormat


def activations(n_tokens: int, d_model: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_tokens, 3, d_model, generator=generator)
    return x * torch.logspace(-4, 3, n_tokens)[:, None, None]


@pytest.mark.parametrize(("n_tokens", "d_model"), [(5, 8), (300, 17), (CHUNK // 3 + 5, 4)])
def test_int8_rows_are_those_of_numpy_and_within_half_a_step(n_tokens: int, d_model: int):
    x = activations(n_tokens, d_model)
    row_format = RowFormat("int8")
    encoded = row_format.encode(x)
    scales = np.abs(x.numpy()).max(-1, keepdims=True) / np.float32(127)
    assert encoded.shape == (n_tokens, 3, d_model + 4)
    assert encoded.dtype == torch.int8
    np.testing.assert_array_equal(encoded[..., :d_model].numpy(), np.rint(x.numpy() / scales).astype(np.int8))
    np.testing.assert_array_equal(encoded[..., d_model:].contiguous().numpy().view(np.float32), scales)
    decoded = row_format.decode(encoded)
    assert decoded.dtype == torch.float32
    assert (np.abs((decoded - x).numpy()) <= scales * 0.500001).all()


def test_rows_of_zeros_stay_zero_and_rows_that_are_not_finite_are_seen():
    x = torch.tensor([[0.0, 0.0], [1.0, float("inf")], [float("nan"), 1.0], [-3.0, 1.5]])
    row_format = RowFormat("int8")
    decoded = row_format.decode(row_format.encode(x))
    assert decoded[0].tolist() == [0.0, 0.0]
    assert decoded[1:3].isnan().all()
    assert decoded[3].tolist() == pytest.approx([-3.0, 1.5], abs=0.012)


def test_the_error_on_normal_numbers_is_the_one_that_is_documented():
    x = torch.randn(4000, 512, generator=torch.Generator().manual_seed(1))
    row_format = RowFormat("int8")
    error = (row_format.decode(row_format.encode(x)) - x).square().mean() / x.var()
    largest = x.abs().amax(-1).mean()
    assert float(error) == pytest.approx(float((largest / 127) ** 2 / 12), rel=0.05)
    assert float(error) < 6.5e-5


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_a_single_row_of_any_width_is_decoded(width: int):
    x = activations(1, width)
    row_format = RowFormat("int8")
    decoded = row_format.decode(row_format.encode(x))
    assert decoded.shape == x.shape
    assert (decoded - x).abs().max() <= x.abs().max() / 127


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_other_formats_are_a_change_of_dtype(name: str):
    x = activations(7, 4).clamp(-100, 100)
    row_format = RowFormat(name)
    assert torch.equal(row_format.decode(row_format.encode(x)), x.to(getattr(torch, name)))
    assert row_format.row_bytes(4) == x[0, 0].to(getattr(torch, name)).nbytes
    assert RowFormat("int8").row_bytes(4) == 8
