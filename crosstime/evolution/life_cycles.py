"""The life of a feature: where it is present, and what that says: emerging, discontinued, transient ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.effects.relie import ABSENT, SPECIFIC
from crosstime.errors import CrosstimeError
from interventions import Bootstrap, interval, resampled_means

PRESENT = ABSENT / SPECIFIC
"""Share of a feature's maximum from which it counts as present. With two checkpoints ``|v| >= 3/7 max`` says the same
as CTT's thresholds: a share of at least .3."""

LIFE_CYCLES = ("never", "always", "emerging", "discontinued", "transient", "maintained", "intermittent")
"""What a life can be; `life_cycle_numbers` gives places in this tuple."""
NEVER, ALWAYS, EMERGING, DISCONTINUED, TRANSIENT, MAINTAINED, INTERMITTENT = range(len(LIFE_CYCLES))


def present(values: Float[Tensor, "*K C"], fraction: float = PRESENT, *, floor: float = 0.0) -> Bool[Tensor, "*K C"]:
    """Where a feature is present: ``|v_c| >= fraction * max_c' |v_c'|`` and ``|v_c| > floor``.

    Args:
        values: effects or decoder norms, checkpoints on the last axis.
        fraction: of the feature's own maximum, above 0 and at most 1.
        floor: absolute size below which nothing counts, for features whose maximum is itself noise.

    Raises:
        CrosstimeError: a fraction out of range, or a negative floor.

    Examples:
        >>> present(torch.tensor([[0.1, 1.0, -0.5], [0.0, 0.0, 0.0]])).tolist()
        [[False, True, True], [False, False, False]]

    Source: CTT (arXiv 2509.05291), section 3.2; EoC (arXiv 2509.17196) for onsets.
    """
    if not 0 < fraction <= 1:
        raise CrosstimeError(
            f"A feature is present from a fraction of its maximum, above 0 and at most 1, not {fraction}."
        )
    if floor < 0:
        raise CrosstimeError(f"The floor under which nothing is present must not be negative; got {floor}.")
    size = values.abs()
    return (size >= fraction * size.amax(-1, keepdim=True)) & (size > floor)


def life_cycle_numbers(where: Bool[Tensor, "*K C"]) -> Int[Tensor, "*K"]:
    """Number in `LIFE_CYCLES` of each pattern of presence.

    ========================  ===========================================================
    always                    present at every checkpoint
    emerging                  absent at first, then present to the end
    discontinued              present from the start, then absent to the end
    transient                 present at one checkpoint between absent ones
    maintained                present at several neighbouring checkpoints between absent ones
    intermittent              absent between two checkpoints at which it is present
    never                     present nowhere
    ========================  ===========================================================

    Examples:
        >>> where = torch.tensor([[False, True, True], [True, False, True], [False, True, False]])
        >>> [LIFE_CYCLES[number] for number in life_cycle_numbers(where)]
        ['emerging', 'intermittent', 'transient']
    """
    n_checkpoints = where.shape[-1]
    first, last, count = first_present(where), last_present(where), where.sum(-1)
    unbroken = last - first + 1 == count
    begins, ends = first == 0, last == n_checkpoints - 1
    found = torch.full_like(count, INTERMITTENT)
    found[unbroken & ~begins & ~ends] = MAINTAINED
    found[unbroken & ~begins & ~ends & (count == 1)] = TRANSIENT
    found[unbroken & begins] = DISCONTINUED
    found[unbroken & ends] = EMERGING
    found[unbroken & begins & ends] = ALWAYS
    found[count == 0] = NEVER
    return found


def first_present(where: Bool[Tensor, "*K C"]) -> Int[Tensor, "*K"]:
    """Number of the first checkpoint of each pattern; C where there is none."""
    return torch.where(where.any(-1), where.int().argmax(-1), where.shape[-1])


def last_present(where: Bool[Tensor, "*K C"]) -> Int[Tensor, "*K"]:
    """Number of the last checkpoint of each pattern; -1 where there is none."""
    return torch.where(where.any(-1), where.shape[-1] - 1 - where.flip(-1).int().argmax(-1), -1)


def life_cycles(
    values: Float[Tensor, "K C"],
    revisions: Sequence[str],
    *,
    features: Sequence[int] | None = None,
    fraction: float = PRESENT,
    floor: float = 0.0,
) -> pd.DataFrame:
    """Name the life of each feature, from its effects or decoder norms.

    Args:
        values: one row a feature.
        revisions: the C checkpoints, in order of training.
        features: numbers of the rows' features; default 0, 1, ...
        fraction, floor: see `present`.

    Returns:
        One row a feature: feature, life_cycle (one of `LIFE_CYCLES`), label (``emerges at step64``), first and last
        (revisions at which it is present; missing for ``never``).

    Raises:
        CrosstimeError: as many values are needed as revisions, and as many rows as features.

    Examples:
        >>> table = life_cycles(torch.tensor([[0.0, 2.0, 2.0]]), ["step0", "step64", "main"])
        >>> table.label[0]
        'emerges at step64'
    """
    revisions = list(revisions)
    if values.shape[1] != len(revisions):
        raise CrosstimeError(f"{len(revisions)} revisions do not fit values of {values.shape[1]} checkpoints.")
    numbered = list(range(len(values))) if features is None else list(features)
    if len(numbered) != len(values):
        raise CrosstimeError(f"{len(numbered)} features do not fit {len(values)} rows of values.")
    where = present(values, fraction, floor=floor)
    numbers, first, last = life_cycle_numbers(where), first_present(where), last_present(where)
    # As categories, a column of a few names over many features costs a byte a row.
    begins = pd.Categorical.from_codes(np.where(first < len(revisions), first, -1), revisions)
    ends = pd.Categorical.from_codes(last.numpy(), revisions)
    table = pd.DataFrame(
        {
            "feature": numbered,
            "life_cycle": pd.Categorical.from_codes(numbers.numpy(), list(LIFE_CYCLES)),
            "first": begins,
            "last": ends,
        }
    )
    kinds = table[["life_cycle", "first", "last"]].drop_duplicates()
    texts = {tuple(row): _label(*row) for row in kinds.itertuples(index=False, name=None)}
    labels = [texts[row] for row in table[["life_cycle", "first", "last"]].itertuples(index=False, name=None)]
    table.insert(2, "label", labels)
    return table


def life_cycle_support(
    per_prompt: Float[Tensor, "P K C"],
    *,
    fraction: float = PRESENT,
    floor: float = 0.0,
    resamples: int = 1_000,
    seed: int = 0,
) -> Float[Tensor, " K"]:
    """How sure each feature's life is: the share of resamples of the prompts with the same pattern of presence.

    Args:
        per_prompt: effect of each feature on each prompt at each checkpoint.
        fraction, floor: see `present`.
        resamples, seed: of the bootstrap; checkpoints share their resamples, since they share their prompts.

    Examples:
        >>> life_cycle_support(torch.ones(20, 1, 3)).tolist()
        [1.0]
    """
    means = resampled_means(per_prompt, Bootstrap(resamples, seed))
    pattern = present(means, fraction, floor=floor)
    observed = present(per_prompt.double().mean(0), fraction, floor=floor)
    return (pattern == observed).all(-1).double().mean(0)


def life_cycle_shares(
    values: Float[Tensor, "K C"],
    per_prompt: Float[Tensor, "P K C"] | None = None,
    *,
    fraction: float = PRESENT,
    floor: float = 0.0,
    resamples: int = 1_000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Share of features with each life, with an interval over prompts where effects are known prompt by prompt.

    The interval is the spread of the labels over resampled prompts. A label is a threshold on noisy sizes, so it
    need not hold the share itself: then the labels hang on single prompts (see `life_cycle_support`).

    Returns:
        One row for each of `LIFE_CYCLES`: life_cycle, count, share, low, high (NaN without `per_prompt`).

    Examples:
        >>> shares = life_cycle_shares(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).set_index("life_cycle").share
        >>> shares["emerging"], shares["always"], shares["never"]
        (0.5, 0.5, 0.0)
    """
    found = _counts(life_cycle_numbers(present(values, fraction, floor=floor)).unsqueeze(0))[0]
    low = high = torch.full((len(LIFE_CYCLES),), float("nan"))
    if per_prompt is not None:
        means = resampled_means(per_prompt, Bootstrap(resamples, seed))
        counts = _counts(life_cycle_numbers(present(means, fraction, floor=floor)))
        low, high = interval(counts / max(1, len(values)), Bootstrap(level=level))
    return pd.DataFrame(
        {
            "life_cycle": list(LIFE_CYCLES),
            "count": found.long().numpy(),
            "share": (found / max(1, len(values))).numpy(),
            "low": low.numpy(),
            "high": high.numpy(),
        }
    )


def _counts(numbers: Int[Tensor, "R K"]) -> Float[Tensor, "R L"]:
    return torch.stack([(numbers == kind).sum(1) for kind in range(len(LIFE_CYCLES))], 1).double()


def _label(kind: str, first: object, last: object) -> str:
    if kind == "emerging":
        return f"emerges at {first}"
    if kind == "discontinued":
        return f"discontinued after {last}"
    if kind == "maintained":
        return f"maintained from {first} to {last}"
    if kind == "transient":
        return f"transient at {first}"
    if kind == "intermittent":
        return f"intermittent from {first} to {last}"
    return kind
