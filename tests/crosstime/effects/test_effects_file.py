from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.errors import RunError
from crosstime.machine.tensors import write_tensors
from interventions import Effects


def effects(seed: int, *, positions: bool = True) -> Effects:
    generator = torch.Generator().manual_seed(seed)

    def numbers(count: int) -> torch.Tensor:
        return torch.randn(count, generator=generator)

    def places(count: int, below: int) -> torch.Tensor:
        return torch.randint(below, (count,), generator=generator)

    return Effects(
        places(9, 4), places(9, 5) if positions else None, places(9, 7), numbers(9), numbers(4), numbers(4), numbers(4),
        torch.full((4,), 5), 7, "ig" if positions else "exact",
    )  # fmt: skip


@pytest.mark.parametrize("positions", [True, False])
def test_effects_come_back_number_for_number(tmp_path: Path, positions: bool):
    written = [effects(seed, positions=positions) for seed in range(3)]
    write_effects(tmp_path / "e.safetensors", written)
    for before, after in zip(written, read_effects(tmp_path / "e.safetensors"), strict=True):
        for each in fields(Effects):
            left, right = getattr(before, each.name), getattr(after, each.name)
            if isinstance(left, torch.Tensor):
                assert left.dtype == right.dtype
                assert torch.equal(left, right), each.name
            else:
                assert left == right, each.name


@pytest.mark.parametrize("facts", [{}, {"checkpoints": "two", "n_features": "7", "method": "ig"}, {"checkpoints": "1"}])
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, facts: dict[str, str]):
    write_tensors(tmp_path / "e.safetensors", {"x": torch.zeros(2)}, facts)
    with pytest.raises(RunError, match=r"e\.safetensors does not hold indirect effects"):
        read_effects(tmp_path / "e.safetensors")
