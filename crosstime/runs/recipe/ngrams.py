"""The table of a recipe about n-grams: ``[ngrams]``."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.runs.recipe.limits import at_least


@dataclass(frozen=True)
class NgramsRecipe:
    """Whether predictions are compared with unigrams and bigrams of the text; see `crosstime.ngram_divergence`.

    Attributes:
        sequences: sequences of the text that the checkpoints read; 0: no comparison.
        counted: further sequences on which the statistics are counted; default: all the rest of the text.
    """

    sequences: int = 0
    counted: int | None = None

    def __post_init__(self) -> None:
        at_least(self, sequences=0, counted=1)
