from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.errors import RunError
from crosstime.machine.tensors import read_tensors, write_tensors
from interventions import Effects


def effects(seed: int, *, positions: bool = True) -> Effects:
    generator = torch.Generator().manual_seed(seed)

    def numbers(count: int) -> torch.Tensor:
        return torch.randn(count, generator=generator)

    def indices(count: int, below: int) -> torch.Tensor:
        return torch.randint(below, (count,), generator=generator)

    return Effects(
        prompt=indices(9, 4),
        position=indices(9, 5) if positions else None,
        feature=indices(9, 7),
        value=numbers(9),
        error=numbers(4),
        clean=numbers(4),
        baseline=numbers(4),
        lengths=torch.full((4,), 5),
        n_features=7,
        method="ig" if positions else "exact",
    )


@pytest.mark.parametrize("positions", [True, False])
def test_effects_come_back_number_for_number(tmp_path: Path, positions: bool):
    originals = [effects(seed, positions=positions) for seed in range(3)]
    write_effects(tmp_path / "e.safetensors", originals)
    for original, copy in zip(originals, read_effects(tmp_path / "e.safetensors"), strict=True):
        for field in fields(Effects):
            expected, value = getattr(original, field.name), getattr(copy, field.name)
            if isinstance(expected, torch.Tensor):
                assert expected.dtype == value.dtype
                assert torch.equal(expected, value), field.name
            else:
                assert expected == value, field.name


@pytest.mark.parametrize(
    "header", [{}, {"checkpoints": "two", "n_features": "7", "method": "ig"}, {"checkpoints": "1"}]
)
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, header: dict[str, str]):
    write_tensors(tmp_path / "e.safetensors", {"x": torch.zeros(2)}, header)
    with pytest.raises(RunError, match=r"e\.safetensors does not hold indirect effects"):
        read_effects(tmp_path / "e.safetensors")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("0.prompt", torch.full((9,), 4), "no prompt 4"),
        ("0.feature", torch.full((9,), -1), "no feature"),
        ("0.value", torch.zeros(9, dtype=torch.int32), "value has dtype"),
        ("0.error", torch.zeros(5), r"error has shape \(5,\), not \(4,\)"),
    ],
)
def test_a_tensor_that_does_not_fit_the_others_is_named(tmp_path: Path, name: str, tensor: torch.Tensor, message: str):
    path = tmp_path / "e.safetensors"
    write_effects(path, [effects(0)])
    tensors, header = read_tensors(path)
    write_tensors(path, tensors | {name: tensor}, header)
    with pytest.raises(RunError, match=message):
        read_effects(path)
