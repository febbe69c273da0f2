"""Activations from a table in place of a model, so that a training takes no forward passes."""

from __future__ import annotations

import pytest
import torch

from crosstime.activations.buffer import ActivationBuffer


def use_table(monkeypatch: pytest.MonkeyPatch, table: torch.Tensor) -> None:
    """Let the token with id i have the activations ``table[i]``, ``C D``, wherever it stands."""

    def harvest(self: ActivationBuffer, rows: list[tuple[int, ...]], indices: list[int]) -> torch.Tensor:
        ids = torch.tensor([token for row in rows for token in row[1:]])
        return self.row_format.encode(table[ids])

    monkeypatch.setattr(ActivationBuffer, "_harvest", harvest)
