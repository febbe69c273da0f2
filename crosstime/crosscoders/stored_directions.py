"""Decoder directions that stay in their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.machine.tensor_files import BLOCK_BYTES, TensorFiles

FeatureIndex = slice | Sequence[int] | Int[Tensor, " K"]
"""Features by a span or by their numbers."""


@dataclass(frozen=True)
class StoredDirections:
    """``W_dec`` of a crosscoder in its files; an index reads the directions that it names, and no others.

    Attributes:
        files: the files of the crosscoder.
    """

    files: TensorFiles

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, C and D."""
        n_features, n_checkpoints, width = self.files.shapes["W_dec"].sizes
        return n_features, n_checkpoints, width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: FeatureIndex | tuple[FeatureIndex, int]) -> Float[Tensor, "K ..."]:
        """Directions ``K C D`` of some features, or ``K D`` of them at one checkpoint."""
        features, checkpoint = index if isinstance(index, tuple) and len(index) == 2 else (index, None)
        others = {} if checkpoint is None else {1: slice(checkpoint, checkpoint + 1)}
        if isinstance(features, slice):
            start, stop, _ = features.indices(len(self))
            rows = self._span(start, max(start, stop), others)
        else:
            numbers = torch.as_tensor(features, dtype=torch.long)
            rows = torch.cat([self._span(0, 0, others), *(self._span(i, i + 1, others) for i in numbers.tolist())])
        return rows if checkpoint is None else rows[:, 0]

    def _span(self, start: int, stop: int, others: dict[int, slice]) -> Tensor:
        """Consecutive directions; a block at a time, so that no more of the files is mapped than a block."""
        n_checkpoints, width = self.shape[1:]
        dtype = self.files.shapes["W_dec"].dtype
        n_read = 1 if others else n_checkpoints
        rows = torch.empty(stop - start, n_read, width, dtype=dtype)
        step = max(1, BLOCK_BYTES // (n_checkpoints * width * dtype.itemsize))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            rows[first - start : last - start] = self.files.read("W_dec", first, last, others)
        return rows
