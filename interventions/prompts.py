"""Token sequences of different lengths, stored flat, and the left-padded batches that a model runs on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interventions.errors import ShapeError


@runtime_checkable
class MinimalPairs(Protocol):
    """The interface of a tokenized task: prompts, right and wrong answers, and patch prompts or None."""

    @property
    def prompts(self) -> Sequence[Sequence[int]]: ...  # noqa: D102
    @property
    def right(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def wrong(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def patch(self) -> Sequence[Sequence[int]] | None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Batch:
    """A subset of `Sequences`, padded on the left to one length.

    Attributes:
        rows: indices of the sequences.
        input_ids: token ids; padding is 0.
        mask: True in slots that hold a token, False at padding.
        flat: index of the slot's token in the flat order, -1 at padding.
    """

    rows: Int[Tensor, " B"]
    input_ids: Int[Tensor, "B S"]
    mask: Bool[Tensor, "B S"]
    flat: Int[Tensor, "B S"]

    def pad(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "B S D"]:
        """Arrange a flat tensor in the slots of this batch, with zeros at padding."""
        flat = self.flat.to(x.device)
        return torch.where((flat >= 0).unsqueeze(-1), x[flat.clamp(min=0)], x.new_zeros(()))

    def unpad(self, padded: Float[Tensor, "B S D"], out: Float[Tensor, "T D"]) -> None:
        """Write the slots of this batch's tokens to their positions in a flat tensor."""
        mask = self.mask.to(padded.device)
        out[self.flat[self.mask].to(out.device)] = padded[mask].to(out)

    def without_last(self, slots: int) -> Batch:
        """The batch without its last slots; each sequence must begin before them."""
        return Batch(self.rows, *(value[:, :-slots] for value in (self.input_ids, self.mask, self.flat)))

    def repeat(self, times: int) -> Batch:
        """Concatenate `times` copies of the batch."""
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Batch(*(value.repeat(times, *[1] * (value.dim() - 1)) for value in fields))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, field.name).to(device) for field in dataclasses.fields(self)))


@dataclass(frozen=True, eq=False)
class Sequences:
    """Token sequences of any lengths. Everything per token is *flat*: one row for each token, without padding.

    Flat tensors have T rows, the sum of the lengths, sequence after sequence, so that no result computed from them can
    include padding. `batch` pads on the left, for a forward pass only.

    Attributes:
        ids: the token ids of each sequence.

    Raises:
        ShapeError: a sequence is empty, or there is none.

    Examples:
        >>> sequences = Sequences(((5, 6, 7), (8,)))
        >>> sequences.n_tokens, sequences.starts.tolist(), sequences.sequence_of_token.tolist()
        (4, [0, 3], [0, 0, 0, 1])
    """

    ids: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if not len(self.ids) or not all(len(row) for row in self.ids):
            raise ShapeError("A model needs at least one sequence, and every sequence at least one token.")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> Int[Tensor, " P"]:
        """Number of tokens of each sequence."""
        return torch.tensor([len(row) for row in self.ids])

    @cached_property
    def starts(self) -> Int[Tensor, " P"]:
        """Flat index of each sequence's first token."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def n_tokens(self) -> int:
        """T, the number of tokens without padding."""
        return int(self.lengths.sum())

    @cached_property
    def sequence_of_token(self) -> Int[Tensor, " T"]:
        """Index of the sequence that each flat token belongs to."""
        return torch.arange(len(self)).repeat_interleave(self.lengths)

    @cached_property
    def position_of_token(self) -> Int[Tensor, " T"]:
        """Position of each flat token in its sequence."""
        return torch.arange(self.n_tokens) - self.starts.repeat_interleave(self.lengths)

    @cached_property
    def tokens(self) -> Int[Tensor, " T"]:
        """The token ids of all sequences, flat."""
        return torch.tensor([token for row in self.ids for token in row])

    def at(self, positions: str | Sequence[tuple[int, int]]) -> Bool[Tensor, " T"]:
        """Return a mask of the flat tokens at `positions`.

        Args:
            positions: ``all``, ``last`` (the last token of each sequence), or a span (first, end) for each sequence.

        Raises:
            ShapeError: another word, another number of spans, or a span outside its sequence.

        Examples:
            >>> Sequences(((5, 6, 7), (8, 9))).at([(0, 2), (1, 2)]).tolist()
            [True, True, False, False, True]
        """
        if isinstance(positions, str):
            if positions not in ("all", "last"):
                raise ShapeError(f"Positions are all, last, or a span for each sequence, not {positions!r}.")
            return (self.position_of_token == self.lengths[self.sequence_of_token] - 1) | (positions == "all")
        if len(positions) != len(self):
            raise ShapeError(f"{len(self)} sequences need as many token spans; got {len(positions)}.")
        for row, ((first, end), length) in enumerate(zip(positions, self.lengths.tolist(), strict=True)):
            if not 0 <= first < end <= length:
                raise ShapeError(f"Span {(first, end)} does not lie in sequence {row}, which has {length} tokens.")
        bounds = torch.tensor([tuple(span) for span in positions])[self.sequence_of_token]
        return (self.position_of_token >= bounds[:, 0]) & (self.position_of_token < bounds[:, 1])

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """Pad the sequences with indices `rows` on the left to the length of the longest."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        position = torch.arange(width) - (width - lengths).unsqueeze(1)
        mask = position >= 0
        flat = torch.where(mask, self.starts[rows].unsqueeze(1) + position, -1)
        input_ids = torch.where(mask, self.tokens[flat.clamp(min=0)], 0)
        return Batch(rows, input_ids, mask, flat)


@dataclass(frozen=True, eq=False)
class Prompts(Sequences):
    """Prompts, each with a right and a wrong answer token, as a task's tokenized pairs give them.

    Attributes:
        ids: the token ids of each prompt.
        right, wrong: an answer token for each prompt.
        patch: the token ids of each patch prompt, or None.

    Raises:
        ShapeError: the numbers of prompts and answers differ, or a patch prompt has another number of
            tokens than its clean prompt.

    Examples:
        >>> prompts = Prompts(((5, 6), (7,)), right=(1, 2), wrong=(3, 4))
        >>> len(prompts), prompts.n_tokens
        (2, 3)
    """

    right: Sequence[int] = ()
    wrong: Sequence[int] = ()
    patch: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.ids) == len(self.right) == len(self.wrong):
            raise ShapeError(
                f"{len(self.ids)} prompts need as many answers; got {len(self.right)} right and "
                f"{len(self.wrong)} wrong ones."
            )
        if self.patch is not None:
            if len(self.patch) != len(self.ids):
                raise ShapeError(f"{len(self.ids)} prompts need as many patch prompts; got {len(self.patch)}.")
            for index, (clean, patch) in enumerate(zip(self.ids, self.patch, strict=True)):
                if len(clean) != len(patch):
                    raise ShapeError(
                        f"Prompt {index} has {len(clean)} tokens, but its patch prompt has {len(patch)}; "
                        "a patch prompt needs the same number."
                    )

    @classmethod
    def of(cls, pairs: MinimalPairs) -> Prompts:
        """Convert any object with `prompts`, `right`, `wrong` and `patch`, such as a tokenized task."""
        if isinstance(pairs, cls):
            return pairs
        return cls(pairs.prompts, pairs.right, pairs.wrong, pairs.patch)

    @property
    def prompts(self) -> Sequence[Sequence[int]]:
        """The prompts' token ids."""
        return self.ids

    @property
    def patched(self) -> Sequences:
        """The patch prompts.

        Raises:
            ShapeError: there are none.
        """
        if self.patch is None:
            raise ShapeError("These prompts have no patch prompts; use the zero baseline instead.")
        return Sequences(self.patch)

    def answers(self, rows: Int[Tensor, " B"]) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """Right and wrong answer tokens of the prompts with indices `rows`."""
        right, wrong = self._answers
        return right[rows], wrong[rows]

    @cached_property
    def _answers(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(list(self.right)), torch.tensor(list(self.wrong))
