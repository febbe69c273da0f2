from __future__ import annotations

import numpy as np
import pytest

import crosstime as ct
from crosstime.errors import CorpusError
from crosstime.suites.text_sample import TextSample
from tasks.agreement import sentences


def test_text_is_read_without_first_tokens_at_every_checkpoint(learning_suite, learning_crosscoder):
    documents = list(sentences(300, seed=1))
    text = ct.decompose_text(learning_suite, learning_crosscoder, documents, sample=TextSample(3, 8))
    assert text.codes.n_tokens == 3 * 7
    assert len(text.decompositions) == 3
    ids = np.array(text.text.ids)
    assert text.tokens.tolist() == ids[:, 1:].flatten().tolist()
    assert text.previous.tolist() == ids[:, :-1].flatten().tolist()


def test_a_sample_without_sequences_is_refused():
    with pytest.raises(CorpusError, match="at least one sequence of two tokens, not 0 of 8"):
        TextSample(0, 8)
