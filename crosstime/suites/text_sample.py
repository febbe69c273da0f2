"""How much of a text is read. The sizes can be checked without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from crosstime.errors import CorpusError
from crosstime.suites.read_lines import TextSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from interventions import Sequences


@dataclass(frozen=True)
class TextSample:
    """How much of a text is read: its first sequences.

    Attributes:
        n_sequences: number of packed sequences, at least 1.
        sequence_length: tokens of one sequence, at least 2.

    Raises:
        CorpusError: a number below its minimum.

    Examples:
        >>> TextSample(n_sequences=16).sequence_length
        64
    """

    n_sequences: int = 128
    sequence_length: int = 64

    def __post_init__(self) -> None:
        if self.n_sequences < 1 or self.sequence_length < 2:
            raise CorpusError(
                f"reading needs at least one sequence of two tokens, not {self.n_sequences} of {self.sequence_length}"
            )

    def read(
        self, corpus: TextSource | Iterable[str], tokenizer: PreTrainedTokenizerBase, start: Sequence[int] = ()
    ) -> Sequences:
        """Read the first packed sequences of a corpus; fewer if the text is shorter.

        Args:
            corpus: a text source, or documents.
            tokenizer: turns text into ids, as in `sequences`.
            start: ids of the tokens with which documents and sequences begin.

        Raises:
            CorpusError: the text cannot be read, or does not fill one sequence.

        Examples:
            >>> TextSample(n_sequences=2).read("corpus.txt.gz", suite.tokenizer).n_tokens  # doctest: +SKIP
            128
        """
        from crosstime.suites.corpus import documents, sequences
        from interventions import Sequences

        lines, _ = documents(corpus)
        rows = islice(sequences(lines, tokenizer, self.sequence_length, start=start), self.n_sequences)
        return Sequences([tuple(row.tolist()) for row in rows])
