"""The table of a recipe about text: ``[corpus]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crosstime.runs.recipe.limits import at_least, not_empty, one_of, share
from crosstime.suites.text_start import TEXT_STARTS

if TYPE_CHECKING:
    from crosstime.activations.store import ActivationStore

GENERATED = "agreement"
"""Source of a text that is generated: sentences of the agreement grammar."""


@dataclass(frozen=True)
class CorpusRecipe:
    """Text for the crosscoder (and for a suite that is trained in the run).

    Attributes:
        source: text files, a Hub data set ``hf:ORG/NAME``, or ``agreement`` for generated sentences; or a folder that
            `crosstime.harvest` wrote: the crosscoder is then trained on its activations, and no model is run for it.
            Only a recipe on rows of parameters (``[rows]``) does without.
        held_out: text to evaluate on; default: other generated sentences, or the same text. A store needs it.
        sentences: number of sentences to generate.
        sequence_length: tokens of a sequence.
        phrase_share: share of generated sentences with a phrase between subject and verb.
        attractor_share: share of those phrases whose noun differs in number from the subject.
        text_start: how documents begin: ``tokenizer`` (as the tokenizer begins a text), ``none``, ``bos`` or ``eos``.
    """

    source: str | list[str] = ""
    held_out: str | list[str] | None = None
    sentences: int = 50_000
    sequence_length: int = 64
    phrase_share: float = 0.6
    attractor_share: float = 0.5
    text_start: str = "tokenizer"

    def __post_init__(self) -> None:
        text = f"text files, a Hub data set hf:ORG/NAME, or {GENERATED!r}"
        # A recipe on rows of parameters has no source, which is an empty text
        not_empty(self, held_out=text, **({"source": text} if self.source != "" else {}))
        at_least(self, sentences=1, sequence_length=2)
        share(self, "phrase_share", "attractor_share")
        one_of(self, text_start=TEXT_STARTS)

    def store(self) -> ActivationStore | None:
        """The stored activations that the source names; None where it is text.

        Raises:
            StoreError: the store is unfinished or damaged, or other sources are named with it.
        """
        from crosstime.activations.store import store_at

        return None if self.source in ("", GENERATED) else store_at(self.source)
