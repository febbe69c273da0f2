"""Tensors come back from a file as they were written, and one that is not as expected is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crosstime.errors import RunError
from crosstime.machine.tensors import (
    REAL,
    WHOLE,
    TensorError,
    check_finite,
    check_names,
    check_tensor,
    listed,
    read_header,
    read_pickled_tensors,
    read_tensors,
    write_tensors,
)


def test_tensors_views_twins_and_metadata_come_back(tmp_path: Path):
    base = torch.arange(12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    tensors = {
        "whole": base,
        "twin": base,
        "view": base[1:, ::2],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {"kind": "test"})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"kind": "test"}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert not read[name].requires_grad
        assert torch.equal(read[name], tensor.detach())


def test_a_safetensors_file_cut_short_is_refused(tmp_path: Path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RunError, match="is not a valid safetensors file"):
        read_tensors(path)


def test_a_header_has_the_names_and_metadata_of_the_file(tmp_path: Path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.zeros(2), "b": torch.zeros(3)}, {"kind": "test"})
    names, metadata = read_header(path)
    assert (sorted(names), metadata) == (["a", "b"], {"kind": "test"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match="is not a valid safetensors file"):
        read_header(path)


def test_named_tensors_of_a_pickle_are_read_and_all_else_is_left_out(tmp_path: Path):
    torch.save({"a": torch.eye(2), "step": 3, 7: torch.zeros(1)}, tmp_path / "t.pt")
    tensors = read_pickled_tensors(tmp_path / "t.pt")
    assert list(tensors) == ["a"]
    assert torch.equal(tensors["a"], torch.eye(2))


def test_a_pickled_tensor_that_is_larger_than_its_data_is_refused(tmp_path: Path):
    torch.save({"a": torch.zeros(1).expand(10**14)}, tmp_path / "t.pt")
    with pytest.raises(RunError, match="a is not a plain tensor of numbers"):
        read_pickled_tensors(tmp_path / "t.pt")


def test_a_pickle_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(RunError, match=r"there is no file of tensors at .*gone\.pt"):
        read_pickled_tensors(tmp_path / "gone.pt")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "it has no tensor b, only a"),
        ([], "it has no tensor a, b, only none"),
        (["a", "b", "c", "d"], "it has an unknown tensor: d"),
    ],
)
def test_tensors_that_are_missing_or_unknown_are_named(names: list[str], message: str):
    check_names(["b", "a"], required=["a", "b"], optional=["c"])
    check_names(["c", "b", "a"], required=["a", "b"], optional=["c"])
    with pytest.raises(TensorError) as caught:
        check_names(names, required=["a", "b"], optional=["c"])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("tensor", "shape", "message"),
    [
        (None, (3,), "a is missing"),
        (torch.zeros(3), (4,), r"a has shape \(3,\), not \(4,\)"),
        (torch.zeros(3), (3, 1), r"a has shape \(3,\), not \(3, 1\)"),
        (torch.zeros(3, 2), (None, 3), r"a has shape \(3, 2\), not \(any, 3\)"),
        (torch.zeros(3, dtype=torch.int64), (3,), "a has dtype torch.int64, not torch.float16 or"),
    ],
)
def test_a_tensor_of_another_shape_or_dtype_is_named(
    tensor: torch.Tensor | None, shape: tuple[int | None, ...], message: str
):
    with pytest.raises(TensorError, match=message):
        check_tensor("a", tensor, shape, REAL)


def test_a_tensor_as_expected_passes_unchanged():
    tensor = torch.zeros(3, 2, dtype=torch.int32)
    for shape in (None, (3, 2), (None, 2), (None, None)):
        assert check_tensor("a", tensor, shape, WHOLE) is tensor


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float):
    finite = torch.ones(2)
    assert check_finite("a", finite) is finite
    with pytest.raises(TensorError, match="a has numbers that are not finite"):
        check_finite("a", torch.tensor([1.0, value]))


def test_long_names_are_shortened():
    assert listed(["x" * 100]) == "x" * 57 + "..."
