"""Read the sequences of a text on which a suite is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crosstime.suites.check_length import check_length
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Sequences


def read_text(
    suite: Suite, corpus: TextSource | Iterable[str], sample: TextSample, *, start: Sequence[int] | None = None
) -> Sequences:
    """The first packed sequences of a text, in the tokens of a suite.

    Args:
        suite: the suite, whose models must have positions for as many tokens.
        corpus: a text source, or documents.
        sample: how much of it is read.
        start: ids of the tokens with which documents begin; None takes those of the suite.

    Raises:
        SuiteError: the sequences are longer than the models' table of positions.
        CorpusError: the text cannot be read, or does not fill one sequence.

    Examples:
        >>> read_text(suite, "corpus.txt.gz", TextSample(n_sequences=2)).n_tokens  # doctest: +SKIP
        128
    """
    check_length(suite, sample.sequence_length)
    return sample.read(corpus, suite.tokenizer, suite.start_tokens if start is None else start)
