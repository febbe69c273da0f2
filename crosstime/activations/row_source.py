"""Rows to train a crosscoder on that are no activations: the protocol of their sources, and rows in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.errors import CrosscoderError
from interventions import Site

_CHUNK = 4_096
"""Rows that are in memory at a time."""


@runtime_checkable
class RowSource(Protocol):
    """The interface of a source for `crosstime.train_rows`: T rows of C x D numbers, aligned over the checkpoints.

    A source of your own, such as one that reads a file larger than the memory, is any class with these members.
    """

    @property
    def name(self) -> str:
        """What the rows are, such as ``W_U``; not empty."""

    @property
    def suite(self) -> str:
        """Name of the suite, for the record."""

    @property
    def revisions(self) -> tuple[str, ...]:
        """The C checkpoints, in order."""

    @property
    def ordered(self) -> bool:
        """Whether the checkpoints are points of one training, rather than models side by side."""

    @property
    def site(self) -> Site:
        """The place in the model to which the rows belong, for the record."""

    @property
    def d_model(self) -> int:
        """D, the width of a row."""

    @property
    def digest(self) -> str:
        """Text that differs where the rows differ, by which an interrupted training recognises them."""

    def __len__(self) -> int:
        """T, the number of rows."""

    def rows(self, indices: Int[Tensor, " N"]) -> Float[Tensor, "N C D"]:
        """Some of the rows, float32 on the CPU."""


def row_chunks(source: RowSource) -> Iterator[Float[Tensor, "t C D"]]:
    """All rows of a source in order, some at a time."""
    for indices in torch.arange(len(source)).split(_CHUNK):
        yield source.rows(indices)


@dataclass(frozen=True, eq=False)
class Rows:
    """A `RowSource` in memory.

    Attributes:
        name: what the rows are.
        values: the rows of every checkpoint; row t is the same thing at all of them.
        revisions: the C checkpoints, in order.
        site: the place in the model to which the rows belong, for the record.
        labels: a name for each row, such as the token that it belongs to; empty for none.
        suite: name of the suite, for the record.
        ordered: whether the checkpoints are points of one training, rather than models side by side.

    Raises:
        CrosscoderError: there is no name or no row, sizes do not fit each other, or a number is not finite.

    Examples:
        >>> rows = Rows("heads", torch.ones(6, 2, 4), ("step64", "main"), Site(1))
        >>> len(rows), rows.d_model, rows.rows(torch.tensor([5])).shape
        (6, 4, torch.Size([1, 2, 4]))
    """

    name: str
    values: Float[Tensor, "T C D"]
    revisions: tuple[str, ...]
    site: Site
    labels: Sequence[str] = ()
    suite: str = "rows"
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise CrosscoderError("Rows need a name that says what they are.")
        if not self.values.numel():
            raise CrosscoderError(f"{self.name} has no rows: its shape is {tuple(self.values.shape)}.")
        if self.values.shape[1] != len(self.revisions):
            raise CrosscoderError(
                f"{self.name} has rows of {self.values.shape[1]} checkpoints, but names {len(self.revisions)}: "
                f"{', '.join(self.revisions)}."
            )
        if self.labels and len(self.labels) != len(self.values):
            raise CrosscoderError(f"{self.name} has {len(self.values):,} rows, but {len(self.labels):,} labels.")
        finite = self.values.isfinite().all(-1).all(0)
        if not finite.all():
            revision = self.revisions[int(finite.int().argmin())]
            raise CrosscoderError(f"{self.name} has rows at {revision!r} that are not finite.")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def d_model(self) -> int:
        """D, the width of a row."""
        return self.values.shape[2]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the name, the checkpoints and every number."""
        values = self.values.detach().to("cpu", torch.float32).contiguous()
        facts = json.dumps([self.name, list(self.revisions), list(values.shape)])
        return hashlib.sha256(facts.encode() + values.numpy().tobytes()).hexdigest()

    def rows(self, indices: Int[Tensor, " N"]) -> Float[Tensor, "N C D"]:
        """Some of the rows, float32 on the CPU."""
        return self.values.detach()[indices.to(self.values.device)].to("cpu", torch.float32)
