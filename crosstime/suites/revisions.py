"""What a revision's name says about how long the model had been trained."""

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
class Progress:
    """How far training was: optimizer steps done and tokens seen; None where it is not known."""

    step: int | None
    tokens: int | None


@dataclass(frozen=True)
class BatchRamp:
    """Tokens seen after a number of steps when the batch grows at the start of training.

    The batch starts at `first` sequences and grows by `increment` up to `last`, in equal shares of
    `samples` sequences, as Megatron-LM's ``--rampup-batch-size first increment samples`` does.
    """

    first: int
    increment: int
    samples: int
    last: int
    sequence_length: int = 2048

    def tokens(self, step: int) -> int:
        """Tokens seen after `step` steps.

        Examples:
            >>> BatchRamp(192, 16, 9_765_625, 256).tokens(1000) == 1000 * 192 * 2048
            True
        """
        growths = (self.last - self.first) // self.increment
        seen = done = 0
        for growth in range(growths):
            size = self.first + growth * self.increment
            # The batch grows once this many sequences have been seen; a step is never split.
            until = (growth + 1) * self.samples / growths
            steps = min(step - done, max(0, math.ceil((until - seen) / size)))
            seen += steps * size
            done += steps
        return (seen + (step - done) * self.last) * self.sequence_length


_BLOOM = {
    "bloom-560m": BatchRamp(192, 16, 9_765_625, 256),
    "bloom-1b1": BatchRamp(192, 16, 9_765_625, 256),
    "bloom-1b7": BatchRamp(192, 16, 9_765_625, 512),
    "bloom-3b": BatchRamp(192, 32, 9_765_625, 512),
    "bloom-7b1": BatchRamp(192, 32, 9_765_625, 512),
}
_BLOOM_LAST_TOKENS = 341 * 10**9


def progress(
    revision: str,
    source: str = "",
    *,
    tokens: Mapping[str, int] | None = None,
    tokens_per_step: int | None = None,
) -> Progress:
    """Read step and tokens off a revision's name, which follows its family's habit.

    ===========================================  ==============================================
    name                                         meaning
    ===========================================  ==============================================
    ``stepN``, source ``pythia-*``               N steps of 2,097,152 tokens (1,024 sequences of
                                                 2,048; Biderman et al., arXiv 2304.01373, sec. 2)
    ``main``, source ``pythia-*``                step 143,000, the last one (same source)
    ``stepN-tokensMB``, ``stage1-stepN-tokensMB``  OLMo: N steps, M billion tokens (a whole number, so
                                                 early checkpoints of small batches read 0);
                                                 ``tokensMM`` counts millions
    ``global_stepN``, source ``bloom-*``         N steps of 2,048-token sequences in a growing batch:
                                                 `BatchRamp` with the numbers of BigScience's training
                                                 scripts (bigscience-workshop/bigscience,
                                                 train/tr11-176B-ml/smaller_models): for bloom-1b1
                                                 192 to 256 sequences in the first 9,765,625
    ``main``, source ``bloom-*``                 341 billion tokens (arXiv 2211.05100, table 3)
    ``stepN``, ``global_stepN``, other source    N steps, tokens unknown
    anything else                                both unknown
    ===========================================  ==============================================

    Args:
        revision: the revision's name.
        source: Hub repository id or folder; its last part says the family.
        tokens: tokens seen, by revision; wins over every rule.
        tokens_per_step: tokens of one step, for names that carry a step; wins over the family's rule.

    Raises:
        SuiteError: when `tokens_per_step` is not positive or a count in `tokens` is negative.

    Examples:
        >>> progress("step1000", "EleutherAI/pythia-1b")
        Progress(step=1000, tokens=2097152000)
        >>> progress("stage1-step140000-tokens294B")
        Progress(step=140000, tokens=294000000000)
    """
    if tokens_per_step is not None and tokens_per_step <= 0:
        raise SuiteError(f"tokens_per_step must be positive, not {tokens_per_step}")
    named = _named(revision, _family(source))
    if tokens_per_step is not None and named.step is not None:
        named = Progress(named.step, named.step * tokens_per_step)
    if tokens is not None and revision in tokens:
        if tokens[revision] < 0:
            raise SuiteError(f"tokens of revision {revision!r} must not be negative: {tokens[revision]}")
        named = Progress(named.step, int(tokens[revision]))
    return named


def in_training_order(progress_of: Mapping[str, Progress]) -> tuple[str, ...]:
    """Sort revisions by training: by tokens, then steps; unknown ones after these; ``main`` last.

    Where every revision has a step the steps decide, since tokens are often rounded.

    Examples:
        >>> in_training_order({"main": Progress(None, None), "step8": Progress(8, 80), "b": Progress(2, 20)})
        ('b', 'step8', 'main')
    """
    steps_decide = all(found.step is not None for name, found in progress_of.items() if name != "main")

    def position(name: str) -> tuple[bool, float, float, list[tuple[int, str]]]:
        found = progress_of[name]
        step = math.inf if found.step is None else float(found.step)
        seen = math.inf if found.tokens is None else float(found.tokens)
        first, second = (step, seen) if steps_decide else (seen, step)
        return name == "main", first, second, _natural(name)

    return tuple(sorted(progress_of, key=position))


def _family(source: str) -> str:
    return PurePath(source).name.lower().removesuffix("-intermediate")


def _named(revision: str, family: str) -> Progress:
    pythia = family.startswith("pythia-")
    if revision == "main":
        if pythia:
            return Progress(PYTHIA_LAST_STEP, PYTHIA_LAST_STEP * PYTHIA_TOKENS_PER_STEP)
        return Progress(None, _BLOOM_LAST_TOKENS if family in _BLOOM else None)
    if match := _OLMO.fullmatch(revision):
        return Progress(int(match["step"]), int(match["count"]) * _UNITS[match["unit"]])
    if match := _STEP.fullmatch(revision):
        step = int(match["step"])
        if pythia:
            return Progress(step, step * PYTHIA_TOKENS_PER_STEP)
        if family in _BLOOM:
            return Progress(step, _BLOOM[family].tokens(step))
        return Progress(step, None)
    return Progress(None, None)


def _natural(name: str) -> list[tuple[int, str]]:
    """Order numbers inside names by value, so that ``epoch10`` follows ``epoch9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
