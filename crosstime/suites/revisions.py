"""What the name of a revision says about how long the model was trained."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from crosstime.errors import SuiteError

PYTHIA_TOKENS_PER_STEP = 2_097_152
PYTHIA_LAST_STEP = 143_000

_STEP = re.compile(r"(?:global_)?step(?P<step>[0-9]+)")
_OLMO = re.compile(r"(?:stage1-)?step(?P<step>[0-9]+)-tokens(?P<count>[0-9]+)(?P<unit>[MB])")
_UNITS = {"M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class TrainingProgress:
    """How far training was: optimizer steps and training tokens; None where a number is unknown."""

    step: int | None
    tokens: int | None


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
    ``stepN-tokensMB``, ``stage1-stepN-tokensMB``  OLMo: N steps, M billion tokens (a whole number, so
                                                 early checkpoints with few tokens read 0);
                                                 ``tokensMM`` counts millions
    ``global_stepN``, source ``bloom-*``         N steps of 2,048-token sequences in a growing batch:
                                                 `BatchRamp` with the numbers of BigScience's training
                                                 scripts (bigscience-workshop/bigscience,
                                                 train/tr11-176B-ml/smaller_models): for bloom-1b1
                                                 192 to 256 sequences in the first 9,765,625
    ``main``, source ``bloom-*``                 341 billion tokens (arXiv 2211.05100, table 3)
    ``stepN``, ``global_stepN``, other source    N steps, tokens unknown
    any other name                               both unknown
    ===========================================  ==============================================

    Args:
        revision: name of the revision.
        source: Hub repository id or folder; its last part tells the family.
        tokens: training tokens by revision; they override every rule.
        tokens_per_step: training tokens of one step, for names with a step; overrides the rule of the family.

    Raises:
        SuiteError: `tokens_per_step` is not positive, or a count in `tokens` is negative.

    Examples:
        >>> training_progress("step1000", "EleutherAI/pythia-1b")
        TrainingProgress(step=1000, tokens=2097152000)
        >>> training_progress("stage1-step140000-tokens294B")
        TrainingProgress(step=140000, tokens=294000000000)
    """
    if tokens_per_step is not None and tokens_per_step <= 0:
        raise SuiteError(f"tokens_per_step must be positive, not {tokens_per_step}")
    progress = _by_family(revision, _family(source))
    if tokens_per_step is not None and progress.step is not None:
        progress = TrainingProgress(progress.step, progress.step * tokens_per_step)
    if tokens is not None and revision in tokens:
        if tokens[revision] < 0:
            raise SuiteError(f"tokens of revision {revision!r} must not be negative: {tokens[revision]}")
        progress = TrainingProgress(progress.step, int(tokens[revision]))
    return progress


def in_training_order(progress: Mapping[str, TrainingProgress]) -> tuple[str, ...]:
    """Sort revisions by tokens, then by steps; unknown ones come after these, and ``main`` last.

    If every revision has a step, the steps come first, since tokens are often rounded.

    Args:
        progress: how far training was, by revision.

    Examples:
        >>> in_training_order(
        ...     {"main": TrainingProgress(None, None), "step8": TrainingProgress(8, 80), "b": TrainingProgress(2, 20)}
        ... )
        ('b', 'step8', 'main')
    """
    all_have_steps = all(reached.step is not None for revision, reached in progress.items() if revision != "main")

    def sort_key(revision: str) -> tuple[bool, float, float, list[tuple[int, str]]]:
        reached = progress[revision]
        step = math.inf if reached.step is None else float(reached.step)
        tokens = math.inf if reached.tokens is None else float(reached.tokens)
        first, second = (step, tokens) if all_have_steps else (tokens, step)
        return revision == "main", first, second, _natural_key(revision)

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
    if match := _OLMO.fullmatch(revision):
        return TrainingProgress(int(match["step"]), int(match["count"]) * _UNITS[match["unit"]])
    if match := _STEP.fullmatch(revision):
        step = int(match["step"])
        if is_pythia:
            return TrainingProgress(step, step * PYTHIA_TOKENS_PER_STEP)
        if family in _BLOOM:
            return TrainingProgress(step, _BLOOM[family].tokens(step))
        return TrainingProgress(step, None)
    return TrainingProgress(None, None)


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers in names by value, so that ``epoch10`` follows ``epoch9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
