"""The tables of a recipe about checkpoints: ``[suite]``, ``[compare]`` and ``[select]``."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosstime.runs.recipe.limits import at_least, one_of, share
from crosstime.suites.similarity_measures import MEASURES
from crosstime.suites.tiny_config import TinyConfig

TINY = "tiny"
"""Source of a suite that is trained in the run itself."""


@dataclass(frozen=True)
class SuiteRecipe:
    """Where the checkpoints come from.

    Attributes:
        source: a folder of checkpoints, a Hub repository, or ``tiny``: trained in this run.
        revisions: checkpoints at which accuracy is measured; default: all.
        name: name of the suite in figures; default: that of the source.
        tokenizer: folder or repository of the tokenizer, for checkpoints that come without one.
        tokens_per_step: training tokens of one step, for checkpoints whose names tell only the step.
        allow_equal_weights: accept checkpoints with the same weight files, which are refused otherwise.
        trust_remote_code: run the Python code that the checkpoints bring, which is refused otherwise.
        tiny: the model to train, with ``source = "tiny"``.
    """

    source: str
    revisions: list[str] | None = None
    name: str | None = None
    tokenizer: str | None = None
    tokens_per_step: int | None = None
    allow_equal_weights: bool = False
    trust_remote_code: bool = False
    tiny: TinyConfig = field(default_factory=TinyConfig)


@dataclass(frozen=True)
class CompareRecipe:
    """Which checkpoints the crosscoder compares, and where in the model.

    Attributes:
        site: component and layer, such as ``resid.2``.
        revisions: the C checkpoints, in this order; default: those that ``[select]`` chooses.
    """

    site: str
    revisions: list[str] | None = None


@dataclass(frozen=True)
class SelectRecipe:
    """How checkpoints are measured and, without ``compare.revisions``, chosen; see `crosstime.select`.

    Attributes:
        k: number of checkpoints to choose.
        weight: weight of accuracy against similarity of activations, 0 to 1.
        measure: measure of similarity: cosine, pearson or cka.
        sequences: sequences of text on which similarity is measured.
        sentences: also measure the accuracy of whole sentences.
    """

    k: int = 3
    weight: float = 0.5
    measure: str = "cosine"
    sequences: int = 64
    sentences: bool = False

    def __post_init__(self) -> None:
        at_least(self, k=2, sequences=1)
        one_of(self, measure=MEASURES)
        share(self, "weight")
