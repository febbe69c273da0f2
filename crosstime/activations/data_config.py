"""How activations are batched and shuffled for training: one value that functions and recipes share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from crosstime.errors import CrosscoderError
from crosstime.machine.dtypes import ROW_FORMATS
from user_input.nearest import nearest

if TYPE_CHECKING:
    from crosstime.activations.null_batches import NullBatches

AVERAGES = ("mean", "median")
"""Averages of norms by which activations are scaled."""


@dataclass(frozen=True)
class DataConfig:
    """The data of a training run: batches, sequences, and the buffer in which tokens are shuffled.

    Attributes:
        batch_size: tokens per training step.
        sequence_length: tokens per sequence of text. Ignored when training on an activation store, whose sequences are
            already cut.
        buffer_tokens: tokens that the shuffle buffer holds in memory.
        buffer_dtype: how the buffer holds activations: float32, bfloat16, float16, or int8 with a scale per row.
        validation: fraction of the documents held out of training. Losses on one batch of them are logged.
        max_activation_norm_multiple: leave out tokens whose norm at any checkpoint is above this multiple of the
            median norm there (of the first filling of the buffer); None leaves nothing out.
        scale_by: ``mean``: scales ``s_c = sqrt(D) / E||x_c||``; ``median``: the median norm in place of the mean,
            which a few tokens of huge norm do not move.
        seed: seed of the order in which documents and tokens are drawn. The crosscoder's initialisation has its own,
            `TrainerConfig.seed`.
        null: what a null model does to every batch; None for the activations as they are.

    Raises:
        CrosscoderError: a size that is too small, an unknown dtype, a validation fraction outside [0, 1), a multiple of
            1 or less, or an unknown average.

    Examples:
        >>> DataConfig(batch_size=512, sequence_length=32).buffer_tokens
        262144

    Source: batch size and sequence length are those of CTT (arXiv 2509.05291), section 3.3;
    `max_activation_norm_multiple` is an option of dictionary_learning.
    """

    batch_size: int = 4096
    sequence_length: int = 1024
    buffer_tokens: int = 1 << 18
    buffer_dtype: str = "float32"
    validation: float = 0.0
    seed: int = 0
    max_activation_norm_multiple: float | None = None
    scale_by: str = "mean"
    null: NullBatches | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise CrosscoderError(f"batch_size must be at least 1, not {self.batch_size}.")
        if self.sequence_length < 2:
            raise CrosscoderError(
                f"sequence_length must be at least 2 tokens, not {self.sequence_length}: the first token of each "
                "sequence is left out of training."
            )
        if self.buffer_tokens < 1:
            raise CrosscoderError(f"buffer_tokens must be at least 1, not {self.buffer_tokens}.")
        if self.buffer_dtype not in ROW_FORMATS:
            raise CrosscoderError(
                f"there is no buffer_dtype {self.buffer_dtype!r}: {nearest(self.buffer_dtype, ROW_FORMATS)}"
            )
        if not 0 <= self.validation < 1:
            raise CrosscoderError(
                f"validation is a fraction of the documents, at least 0 and below 1, not {self.validation}."
            )
        multiple = self.max_activation_norm_multiple
        if multiple is not None and not 1 < multiple < float("inf"):
            raise CrosscoderError(
                f"max_activation_norm_multiple must be above 1, not {multiple}: most tokens have a norm of 1."
            )
        if self.scale_by not in AVERAGES:
            raise CrosscoderError(f"there is no scale_by {self.scale_by!r}: {nearest(self.scale_by, AVERAGES)}")

    def norm_settings(self) -> dict[str, object]:
        """The settings about norms that differ from the defaults, which records of a training leave out.

        Examples:
            >>> DataConfig(scale_by="median").norm_settings()
            {'scale_by': 'median'}
        """
        names = ("max_activation_norm_multiple", "scale_by")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(DataConfig, name)}

    def null_settings(self) -> dict[str, object]:
        """What a null model does to the batches, for records of a training; empty for a training that is none.

        Examples:
            >>> from crosstime.activations.null_batches import NullBatches
            >>> DataConfig(null=NullBatches(permuted=True)).null_settings()
            {'null': {'permuted': True, 'noise': [], 'seed': 0}}
        """
        return {} if self.null is None else {"null": asdict(self.null) | {"noise": list(self.null.noise)}}
