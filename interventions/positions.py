"""How long a sequence may be: tables of positions, and the length that a model was trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig

_TABLE = re.compile(r"(^|[._])(wpe|pos|position|positions|pos_emb|embed_positions|pos_encoding)([._]|$|_)")
_EXTENDED = "embed_positions.weights"
"""Name of the sinusoidal table of XGLM, which is extended when a sequence is longer."""
_MOST_OFFSET = 2
"""Rows that a table may have beyond the positions: OPT and BioGPT begin at row 2."""


@dataclass(frozen=True)
class Positions:
    """Length of the sequences of a model.

    Attributes:
        table: positions for which the model has a row; a longer sequence cannot be run. None without a table.
        trained: length of the sequences that the model was configured for; None if it has no such length (ALiBi,
            recurrences).

    Examples:
        >>> Positions(table=None, trained=2048).problem(4096) is None
        True
    """

    table: int | None
    trained: int | None

    @classmethod
    def of(cls, module: nn.Module, config: PretrainedConfig) -> Positions:
        """Read them off a model and its configuration; the weights may be on the meta device."""
        text = config.get_text_config()
        if text.model_type == "mpt":
            # Its ALiBi biases are made for the configured length, and no longer one
            return cls(int(text.max_seq_len), int(text.max_seq_len))
        trained = getattr(text, "max_position_embeddings", None)
        if not isinstance(trained, int) or trained < 1 or _is_alibi(config):
            return cls(None, None)
        tensors = [*module.named_parameters(), *module.named_buffers()]
        has_table = any(
            _TABLE.search(name)
            and not name.endswith(_EXTENDED)
            and tensor.dim() == 2
            and trained <= tensor.shape[0] <= trained + _MOST_OFFSET
            for name, tensor in tensors
        )
        return cls(trained if has_table else None, trained)

    def problem(self, length: int) -> str | None:
        """Why a sequence of this length cannot be run, as the second half of a sentence; None if it can."""
        if self.table is None or length <= self.table:
            return None
        return f"a sequence has {length:,} tokens, but the model has positions for {self.table:,} only"

    def doubt(self, length: int) -> str | None:
        """Why the results of a sequence of this length mean little, as the second half of a sentence; None if not."""
        if self.table is not None or self.trained is None or length <= self.trained:
            return None
        return f"a sequence has {length:,} tokens, but the model was trained on {self.trained:,} at most"


def _is_alibi(config: PretrainedConfig) -> bool:
    """Whether attention is biased by distance, so that there is no longest sequence."""
    text = config.get_text_config()
    attention = getattr(text, "attn_config", None)
    return bool(getattr(text, "alibi", False) or getattr(attention, "alibi", False)) or text.model_type == "bloom"
