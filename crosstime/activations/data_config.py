"""How activations are batched for training: one value that functions, recipes and the command line share."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.errors import CrosscoderError
from crosstime.suites.compute import DTYPES
from user_input.nearest import nearest


@dataclass(frozen=True)
class DataConfig:
    """The data of a training: batches, sequences, and the buffer in which tokens are shuffled.

    Attributes:
        batch_size: tokens of one training step.
        sequence_length: tokens of one sequence of text; a store of activations has its own.
        buffer_tokens: tokens that are held in memory and shuffled together.
        buffer_dtype: float32, bfloat16 or float16: the dtype in which they are held.
        validation: share of the documents that training does not see; a batch of them is measured for the log.

    Raises:
        CrosscoderError: a dtype that is not one of these, or a validation share outside [0, 1).

    Examples:
        >>> DataConfig(batch_size=512, sequence_length=32).buffer_tokens
        262144

    Source: batch and sequence length are those of CTT (arXiv 2509.05291), appendix.
    """

    batch_size: int = 4096
    sequence_length: int = 1024
    buffer_tokens: int = 1 << 18
    buffer_dtype: str = "float32"
    validation: float = 0.0

    def __post_init__(self) -> None:
        if self.buffer_dtype not in DTYPES:
            raise CrosscoderError(
                f"There is no buffer_dtype {self.buffer_dtype!r}: {nearest(self.buffer_dtype, DTYPES)}"
            )
        if not 0 <= self.validation < 1:
            raise CrosscoderError(
                f"validation is a share of the documents, at least 0 and below 1, not {self.validation}."
            )
