"""The tables of a recipe about checkpoints: ``[suite]``, ``[compare]`` and ``[select]``."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import at_least, not_empty, one_of, share
from crosstime.suites.similarity_measures import MEASURES
from crosstime.suites.tiny_config import TinyConfig
from user_input.nearest import nearest

TINY = "tiny"
"""Source of a suite that is trained in the run itself."""


@dataclass(frozen=True)
class SuiteRecipe:
    """Where the checkpoints come from.

    Attributes:
        source: a folder of checkpoints, a Hub repository, or ``tiny``: trained in this run.
        models: in place of a source, models side by side by name, as in ``{base = "ORG/NAME", chat = "FOLDER"}``:
            folders, repositories with or without ``@REVISION``, or adapters of peft; see `crosstime.Suite.of`.
        revisions: checkpoints at which accuracy is measured; default: all.
        name: name of the suite in figures; default: that of the source.
        tokenizer: folder or repository of the tokenizer, for checkpoints that come without one.
        tokens_per_step: training tokens of one step, for checkpoints whose names tell only the step.
        allow_equal_weights: accept checkpoints with the same weight files, which are refused otherwise.
        trust_remote_code: run the Python code that the checkpoints bring, which is refused otherwise.
        tiny: the model to train, with ``source = "tiny"``.
    """

    source: str = ""
    models: dict[str, str] = field(default_factory=dict)
    revisions: list[str] | None = None
    name: str | None = None
    tokenizer: str | None = None
    tokens_per_step: int | None = None
    allow_equal_weights: bool = False
    trust_remote_code: bool = False
    tiny: TinyConfig = field(default_factory=TinyConfig)

    def __post_init__(self) -> None:
        if bool(self.source) == bool(self.models):
            raise RecipeError("needs a key 'source' or a table 'models', and not both.")
        not_empty(self, revisions="a list of checkpoints", name="a text", tokenizer="a folder or a repository")
        at_least(self, tokens_per_step=1)
        if self.models and self.tokens_per_step is not None:
            raise RecipeError(
                f"tokens_per_step has no step to count, and is {self.tokens_per_step}: models side by side are not "
                "told apart by steps."
            )
        for name in self.revisions or []:
            if self.models and name not in self.models:
                raise RecipeError(f"revisions: there is no model {name!r}: {nearest(name, self.models)}")


@dataclass(frozen=True)
class CompareRecipe:
    """Which checkpoints the crosscoder compares, and where in the model.

    Attributes:
        site: component and layer, such as ``resid.2``; required, but for rows of parameters (``[rows]``), which have
            none.
        revisions: the C checkpoints, in this order; default: those that ``[select]`` chooses, or all models of
            ``suite.models``; for rows of parameters, all checkpoints of the suite.
    """

    site: str = ""
    revisions: list[str] | None = None

    def __post_init__(self) -> None:
        not_empty(self, revisions="a list of checkpoints")


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
