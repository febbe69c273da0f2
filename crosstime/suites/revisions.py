"""What the name of a revision says about how long the model was trained."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath

from crosstime.errors import SuiteError

PYTHIA_TOKENS_PER_STEP = 2_097_152
PYTHIA_LAST_STEP = 143_000

_NAME = re.compile(
    r"(?:stage[-_]?(?P<stage>[0-9]{1,9})[-_])?"
    r"(?:ingredient[-_]?(?P<ingredient>[0-9]{1,9})[-_])?"
    r"(?:(?:global[-_])?step|checkpoint|iter(?:ation)?)[-_]?(?P<step>[0-9]{1,15})(?P<thousands>k?)"
    r"(?:[-_](?:tokens[-_]?(?P<count>[0-9]{1,15}(?:\.[0-9]{1,15})?)(?P<unit>[KMBT])"
    r"|(?P<short_count>[0-9]{1,15}(?:\.[0-9]{1,15})?)(?P<short_unit>[KMBT])T))?",
    re.IGNORECASE | re.ASCII,
)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_DRIFT = 0.02
"""Largest relative difference between the tokens of a name and its steps that rounding and restarts explain."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far training was: optimizer steps and training tokens; None where a number is unknown."""

    step: int | None
    tokens: int | None


@dataclass(frozen=True)
class RevisionName:
    """What the name of a revision says, whatever its model.

    Attributes:
        stage: number of the training stage; 1 if the name has none.
        ingredient: number of the run within the stage, of runs whose weights are averaged later; 0 if it has none.
        step: optimizer steps, counted as the name counts them: OLMo starts again at each stage, SmolLM3 goes on.
        tokens: training tokens, rounded to `unit`; None if the name has none.
        unit: the unit in which the name counts tokens, such as 10**9.
    """

    stage: int
    ingredient: int
    step: int
    tokens: int | None
    unit: int

    @classmethod
    def parse(cls, name: str) -> RevisionName | None:
        """The parts of a name, or None if it does not say at which step the checkpoint was saved.

        Examples:
            >>> RevisionName.parse("stage2-ingredient1-step1000-tokens3B")
            RevisionName(stage=2, ingredient=1, step=1000, tokens=3000000000, unit=1000000000)
            >>> RevisionName.parse("checkpoint-500").step, RevisionName.parse("float16")
            (500, None)
        """
        if (match := _NAME.fullmatch(name)) is None:
            return None
        unit = _UNITS[(match["unit"] or match["short_unit"] or "M").upper()]
        count = match["count"] or match["short_count"]
        return cls(
            stage=int(match["stage"] or 1),
            ingredient=int(match["ingredient"] or 0),
            step=int(match["step"]) * (1000 if match["thousands"] else 1),
            tokens=None if count is None else round(Fraction(count) * unit),
            unit=unit,
        )

    def check_tokens(self, name: str, tokens_per_step: int) -> None:
        """Compare the tokens of the name with its steps.

        Raises:
            SuiteError: they differ by more than rounding to the unit and a few restarts of training explain.
        """
        tokens = self.step * tokens_per_step
        if self.tokens is not None and abs(tokens - self.tokens) > self.unit + _DRIFT * self.tokens:
            raise SuiteError(
                f"{self.step:,} steps of {tokens_per_step:,} tokens are {tokens:,}, but the name of revision {name!r} "
                f"says {self.tokens:,}: correct tokens_per_step, or leave it out to use the numbers of the names"
            )


@dataclass(frozen=True)
class BatchRamp:
    """Training tokens after a number of steps, for a batch that grows at the start of training.

    The batch starts at `first` sequences and grows by `increment` up to `last`, in equal shares of `samples` sequences,
    as with Megatron-LM's ``--rampup-batch-size first increment samples``.

    Attributes:
        first: sequences of the first batch.
        increment: sequences by which the batch grows.
        samples: sequences after which the batch has its final size.
        last: sequences of the final batch.
        sequence_length: tokens of a sequence.
    """

    first: int
    increment: int
    samples: int
    last: int
    sequence_length: int = 2048

    def tokens(self, step: int) -> int:
        """Training tokens after `step` steps.

        Examples:
            >>> BatchRamp(192, 16, 9_765_625, 256).tokens(1000) == 1000 * 192 * 2048
            True
        """
        increments = (self.last - self.first) // self.increment
        sequences = steps = 0
        for index in range(increments):
            # The batch grows once this many sequences have been seen; a step is never split.
            batch_size = self.first + index * self.increment
            limit = (index + 1) * self.samples / increments
            steps_at_this_size = min(step - steps, max(0, math.ceil((limit - sequences) / batch_size)))
            sequences += steps_at_this_size * batch_size
            steps += steps_at_this_size
        return (sequences + (step - steps) * self.last) * self.sequence_length


_BLOOM = {
    "bloom-560m": BatchRamp(192, 16, 9_765_625, 256),
    "bloom-1b1": BatchRamp(192, 16, 9_765_625, 256),
    "bloom-1b7": BatchRamp(192, 16, 9_765_625, 512),
    "bloom-3b": BatchRamp(192, 32, 9_765_625, 512),
    "bloom-7b1": BatchRamp(192, 32, 9_765_625, 512),
}
_BLOOM_LAST_TOKENS = 341 * 10**9


def training_progress(
    revision: str,
    source: str = "",
    *,
    tokens: Mapping[str, int] | None = None,
    tokens_per_step: int | None = None,
) -> TrainingProgress:
    """Read step and tokens from the name of a revision, by the naming scheme of its model family.

    ===========================================  ==============================================
    name                                         meaning
    ===========================================  ==============================================
    ``stepN``, source ``pythia-*``               N steps of 2,097,152 tokens (1,024 sequences of
                                                 2,048; Biderman et al., arXiv 2304.01373, sec. 2)
    ``main``, source ``pythia-*``                step 143,000, the last one (same source)
    ``stepN-tokensMB``                           OLMo: N steps, M billion tokens (a whole number, so
                                                 early checkpoints with few tokens read 0);
                                                 ``tokensMK``, ``-MM`` and ``-MT`` count thousands,
                                                 millions and trillions, and ``step-N-MBT`` is the same
    ``global_stepN``, source ``bloom-*``         N steps of 2,048-token sequences in a growing batch:
                                                 `BatchRamp` with the numbers of BigScience's training
                                                 scripts (bigscience-workshop/bigscience,
                                                 train/tr11-176B-ml/smaller_models): for bloom-1b1
                                                 192 to 256 sequences in the first 9,765,625
    ``main``, source ``bloom-*``                 341 billion tokens (arXiv 2211.05100, table 3)
    ``stepN``, ``global_stepN``, ``step-N``,     N steps, tokens unknown; ``step-Nk`` counts thousands
    ``step_N``, ``checkpoint-N``, ``iter_N``,
    other source
    ``stageS-``, ``stageS-ingredientI-`` before  the same, counted as the name counts: OLMo-2 and Olmo-3
    any of these                                 start again at each stage, SmolLM3 goes on
    any other name                               both unknown
    ===========================================  ==============================================

    Args:
        revision: name of the revision.
        source: Hub repository id or folder; its last part tells the family.
        tokens: training tokens by revision; they override every rule.
        tokens_per_step: training tokens of one step, for names with a step; overrides the rule of the family, and
            tokens in the name, with which it must agree up to their rounding.

    Raises:
        SuiteError: `tokens_per_step` is not positive or contradicts the tokens in the name, or a count in `tokens` is
            negative.

    Examples:
        >>> training_progress("step1000", "EleutherAI/pythia-1b")
        TrainingProgress(step=1000, tokens=2097152000)
        >>> training_progress("stage1-step140000-tokens294B")
        TrainingProgress(step=140000, tokens=294000000000)
    """
    if tokens_per_step is not None and tokens_per_step <= 0:
        raise SuiteError(f"tokens_per_step must be positive, not {tokens_per_step}")
    progress = _by_family(revision, _family(source))
    if tokens is not None and revision in tokens:
        if tokens[revision] < 0:
            raise SuiteError(f"tokens of revision {revision!r} must not be negative: {tokens[revision]}")
        return TrainingProgress(progress.step, int(tokens[revision]))
    if tokens_per_step is not None and progress.step is not None:
        if (name := RevisionName.parse(revision)) is not None:
            name.check_tokens(revision, tokens_per_step)
        progress = TrainingProgress(progress.step, progress.step * tokens_per_step)
    return progress


def in_training_order(progress: Mapping[str, TrainingProgress]) -> tuple[str, ...]:
    """Sort revisions by stage and ingredient, then by tokens and steps; unknown ones come after, and ``main`` last.

    Steps and tokens may start again at each stage. Names without a stage belong to the first. If every revision has a
    step, the steps come before the tokens, which are often rounded.

    Args:
        progress: how far training was, by revision.

    Examples:
        >>> in_training_order(
        ...     {"main": TrainingProgress(None, None), "step8": TrainingProgress(8, 80), "b": TrainingProgress(2, 20)}
        ... )
        ('b', 'step8', 'main')
        >>> names = ["stage2-step5", "stage1-step10", "stage1-step9"]
        >>> in_training_order({name: training_progress(name) for name in names})
        ('stage1-step9', 'stage1-step10', 'stage2-step5')
    """
    all_have_steps = all(reached.step is not None for revision, reached in progress.items() if revision != "main")

    def sort_key(revision: str) -> tuple[bool, int, int, float, float, list[tuple[int, str]]]:
        reached, name = progress[revision], RevisionName.parse(revision)
        stage, ingredient = (1, 0) if name is None else (name.stage, name.ingredient)
        step = math.inf if reached.step is None else float(reached.step)
        tokens = math.inf if reached.tokens is None else float(reached.tokens)
        first, second = (step, tokens) if all_have_steps else (tokens, step)
        return revision == "main", stage, ingredient, first, second, _natural_key(revision)

    return tuple(sorted(progress, key=sort_key))


def _family(source: str) -> str:
    return PurePath(source).name.lower().removesuffix("-intermediate")


def _by_family(revision: str, family: str) -> TrainingProgress:
    """Step and tokens by the table of `training_progress`."""
    is_pythia = family.startswith("pythia-")
    if revision == "main":
        if is_pythia:
            return TrainingProgress(PYTHIA_LAST_STEP, PYTHIA_LAST_STEP * PYTHIA_TOKENS_PER_STEP)
        return TrainingProgress(None, _BLOOM_LAST_TOKENS if family in _BLOOM else None)
    if (name := RevisionName.parse(revision)) is None:
        return TrainingProgress(None, None)
    if name.tokens is not None:
        return TrainingProgress(name.step, name.tokens)
    # The batches of a family are those of its own names: a fine-tuned Pythia's "checkpoint-500" had others.
    if is_pythia and revision.startswith("step"):
        return TrainingProgress(name.step, name.step * PYTHIA_TOKENS_PER_STEP)
    if family in _BLOOM and revision.startswith("global_step"):
        return TrainingProgress(name.step, _BLOOM[family].tokens(name.step))
    return TrainingProgress(name.step, None)


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers in names by value, so that ``epoch10`` follows ``epoch9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
