"""What a training returns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.display import Display


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult(Display):
    """A trained crosscoder and the log of its losses.

    Attributes:
        crosscoder: the crosscoder, in evaluation mode on the CPU. With feature shards it is this process's shard, whose
            `save` all processes call together.
        log: about a hundred rows, evenly spaced over the steps: step, loss, l2, sparsity, l0, dead; with a validation
            fraction also held_out_loss and held_out_l2 (see `crosstime.training.held_out_documents.ValidationBatch`).
        tokens: number of tokens whose activations were computed or read.
    """

    crosscoder: CrossCoder
    log: pd.DataFrame
    tokens: int

    def headline(self) -> str:
        """The crosscoder, and the number of tokens that it was trained on."""
        return f"{self.crosscoder.headline()}; {self.tokens:,} tokens were harvested"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The last rows of the log."""
        return {"the end of its log": self.log.tail(5)}
