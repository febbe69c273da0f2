"""Shuffled batches of the rows of a source, for training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.read_ahead import Position, Reading
from crosstime.activations.row_source import RowSource, row_chunks
from crosstime.activations.token_rows import Share
from crosstime.errors import CrosscoderError
from crosstime.suites.token_norms import token_norms


class RowBatches(ShuffledBuffer):
    """Batches ``B C D`` of the rows of a source, in random order, which start over in another one at its end.

    Args:
        source: the rows.
        data: batch size, buffer size, dtype and seed of the buffer; each row counts as a token.
        limit: total number of rows to serve.
        state: state of another buffer on the same source to continue from.

    Attributes:
        scales: ``s_c = sqrt(D) / E||x_c||`` over all rows (with ``scale_by = "median"`` or rows of huge norm left out,
            over the first filling of the buffer).

    Raises:
        CrosscoderError: the source has fewer rows than a batch, all rows of a checkpoint are zero, or `state`
            belongs to another source.

    Examples:
        >>> from crosstime.activations.row_source import Rows
        >>> from interventions import Site
        >>> rows = Rows("ones", torch.ones(8, 1, 4), ("main",), Site(0))
        >>> [len(x) for x in RowBatches(rows, DataConfig(batch_size=4, buffer_tokens=8), limit=12)]
        [4, 4, 4]
    """

    def __init__(self, source: RowSource, data: DataConfig, *, limit: int, state: BufferState | None = None) -> None:
        if len(source) < data.batch_size:
            raise CrosscoderError(
                f"{source.name} has {len(source):,} rows, fewer than a batch of {data.batch_size:,}: take a smaller "
                "batch_size."
            )
        super().__init__(source.revisions, source.d_model, data, limit=limit)
        self.source = source
        self._position = Position(0, source.digest)
        self._epoch = -1
        self._row_order = torch.empty(0, dtype=torch.int64)

        # Continue from the state of another buffer, or measure the scales
        if state is not None:
            if state.digest != source.digest:
                raise CrosscoderError(
                    f"The rows of {source.name} are not those that training was interrupted on: give the same rows, or "
                    "train from the beginning."
                )
            self._restore(state)
        elif data.norm_settings():
            self._refill()
            self.scales = self._measure_scales()
        else:
            self.scales = self._scales_of_all()
        if not self.scales.isfinite().all():
            revision = source.revisions[int(self.scales.isfinite().int().argmin())]
            raise CrosscoderError(f"The average norm of the rows of {source.name} at {revision!r} is zero.")

    def _read(self, n_tokens: int) -> Reading:
        start = self._position.sequences
        indices = torch.tensor([self._index(number) for number in range(start, start + n_tokens)], dtype=torch.int64)
        rows = self.row_format.encode(self.source.rows(indices))
        return Reading(Share(rows), Position(start + n_tokens, self.source.digest))

    def _index(self, number: int) -> int:
        """The row that is read as the given one, counted over all epochs."""
        epoch, place = divmod(number, len(self.source))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.data.seed + (epoch + 1) * 1_000_003)
            self._epoch, self._row_order = epoch, torch.randperm(len(self.source), generator=generator)
        return int(self._row_order[place])

    def _scales_of_all(self) -> Float[Tensor, " C"]:
        norms = torch.cat([token_norms(rows) for rows in row_chunks(self.source)])
        return self._d_model**0.5 / norms.double().mean(0).float()
