"""The life cycle of a feature: at which checkpoints it is present, and the name of that pattern."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.errors import CrosstimeError
from crosstime.evolution.presence import PRESENT, checkpoint_names, first_present, last_present, present
from interventions import Bootstrap, interval, resampled_means

LIFE_CYCLES = ("never", "always", "emerging", "discontinued", "transient", "maintained", "intermittent")
"""Names of the life cycles; `life_cycle_numbers` gives indices into this tuple."""
SHARING = ("never", "shared", "specific", "partly shared")
"""In place of life cycles for models side by side, which have no order."""
NEVER, ALWAYS, EMERGING, DISCONTINUED, TRANSIENT, MAINTAINED, INTERMITTENT = range(len(LIFE_CYCLES))


def pattern_names(*, ordered: bool) -> tuple[str, ...]:
    """The names of patterns of presence: `LIFE_CYCLES` of checkpoints in order, or `SHARING` of models side by side."""
    return LIFE_CYCLES if ordered else SHARING


def life_cycle_numbers(presence: Bool[Tensor, "*K C"], *, ordered: bool = True) -> Int[Tensor, "*K"]:
    """Index in `LIFE_CYCLES` of each pattern of presence; of models side by side, in `SHARING`.

    ========================  ===========================================================
    always                    present at every checkpoint
    emerging                  absent at first, then present to the end
    discontinued              present from the start, then absent to the end
    transient                 present at one checkpoint between absent ones
    maintained                present at several neighbouring checkpoints between absent ones
    intermittent              absent between two checkpoints at which it is present
    never                     present nowhere
    ========================  ===========================================================

    A feature of models side by side is *shared* if all have it, *specific* if one has it, and else *partly shared*.

    Args:
        presence: whether each feature is present at each checkpoint, see `present`.
        ordered: whether the checkpoints are points of one training.

    Examples:
        >>> presence = torch.tensor([[False, True, True], [True, False, True], [False, True, False]])
        >>> [LIFE_CYCLES[number] for number in life_cycle_numbers(presence)]
        ['emerging', 'intermittent', 'transient']
    """
    n_checkpoints = presence.shape[-1]
    if not ordered:
        # The last condition that holds decides
        count = presence.sum(-1)
        numbers = torch.full_like(count, SHARING.index("partly shared"))
        numbers[count == 1] = SHARING.index("specific")
        numbers[count == n_checkpoints] = SHARING.index("shared")
        numbers[count == 0] = SHARING.index("never")
        return numbers
    first, last, count = first_present(presence), last_present(presence), presence.sum(-1)
    unbroken = last - first + 1 == count
    from_start, to_end = first == 0, last == n_checkpoints - 1

    # A later assignment overrides an earlier one
    numbers = torch.full_like(count, INTERMITTENT)
    numbers[unbroken & ~from_start & ~to_end] = MAINTAINED
    numbers[unbroken & ~from_start & ~to_end & (count == 1)] = TRANSIENT
    numbers[unbroken & from_start] = DISCONTINUED
    numbers[unbroken & to_end] = EMERGING
    numbers[unbroken & from_start & to_end] = ALWAYS
    numbers[count == 0] = NEVER
    return numbers


def life_cycles(
    values: Float[Tensor, "K C"],
    revisions: Sequence[str],
    *,
    features: Sequence[int] | None = None,
    fraction: float = PRESENT,
    floor: float = 0.0,
    ordered: bool = True,
) -> pd.DataFrame:
    """Name the life cycle of each feature, from its effects or decoder norms.

    Args:
        values: effects or norms of K features at C checkpoints.
        revisions: names of the checkpoints, in order of training.
        features: numbers of the K features; by default 0, 1, ...
        fraction, floor: see `present`.
        ordered: whether the checkpoints are points of one training; models side by side have `SHARING` instead.

    Returns:
        One row for each feature: feature, life_cycle (one of `LIFE_CYCLES`), label (``emerges at step64``), first and
        last (revisions at which it is present; missing for ``never``).

    Raises:
        CrosstimeError: the number of revisions or of features does not fit the values.

    Examples:
        >>> table = life_cycles(torch.tensor([[0.0, 2.0, 2.0]]), ["step0", "step64", "main"])
        >>> table.label[0]
        'emerges at step64'
    """
    if values.shape[1] != len(revisions):
        raise CrosstimeError(f"{len(revisions)} revisions do not fit values of {values.shape[1]} checkpoints.")
    feature_numbers = list(range(len(values))) if features is None else list(features)
    if len(feature_numbers) != len(values):
        raise CrosstimeError(f"{len(feature_numbers)} features do not fit {len(values)} rows of values.")

    presence = present(values, fraction, floor=floor)
    return life_cycle_table(presence, revisions, feature_numbers, ordered=ordered)


def life_cycle_table(
    presence: Bool[Tensor, "K C"], revisions: Sequence[str], features: Sequence[int], *, ordered: bool = True
) -> pd.DataFrame:
    """Name the life cycle of each feature, from the checkpoints at which it is present.

    Args:
        presence: whether each feature is present at each checkpoint.
        revisions: names of the checkpoints, in order of training.
        features: numbers of the K features.
        ordered: whether the checkpoints are points of one training.

    Returns:
        The columns of `life_cycles`.

    Examples:
        >>> life_cycle_table(torch.tensor([[True, False]]), ["step0", "main"], [7]).label[0]
        'discontinued after step0'
    """
    # Name the patterns of presence
    table = pd.DataFrame(
        {
            "feature": list(features),
            "life_cycle": pd.Categorical.from_codes(
                life_cycle_numbers(presence, ordered=ordered).numpy(), pd.Index(pattern_names(ordered=ordered))
            ),
            "first": checkpoint_names(first_present(presence), revisions),
            "last": checkpoint_names(last_present(presence), revisions),
        }
    )

    if not ordered:
        table.insert(2, "label", _sharing_labels(presence, revisions))
        return table

    # Label them; there are few different patterns among many features
    pattern = ["life_cycle", "first", "last"]
    patterns = table[pattern].drop_duplicates().itertuples(index=False, name=None)
    label_of = {(kind, first, last): _label(kind, first, last) for kind, first, last in patterns}
    labels = [label_of[row] for row in table[pattern].itertuples(index=False, name=None)]
    table.insert(2, "label", labels)
    return table


def life_cycle_support(
    per_prompt: Float[Tensor, "P K C"],
    *,
    fraction: float = PRESENT,
    floor: float = 0.0,
    bootstrap: Bootstrap = Bootstrap(resamples=1_000),
) -> Float[Tensor, " K"]:
    """How certain the life cycle of each feature is: the share of resamples of the prompts with the same pattern.

    Args:
        per_prompt: effect of each of K features on each of P prompts at each checkpoint.
        fraction, floor: see `present`.
        bootstrap: of the prompts; checkpoints share their resamples, since they share their prompts.

    Examples:
        >>> life_cycle_support(torch.ones(20, 1, 3)).tolist()
        [1.0]
    """
    resampled = present(resampled_means(per_prompt, bootstrap), fraction, floor=floor)
    observed = present(per_prompt.double().mean(0), fraction, floor=floor)
    return (resampled == observed).all(-1).double().mean(0)


def life_cycle_shares(
    values: Float[Tensor, "K C"],
    per_prompt: Float[Tensor, "P K C"] | None = None,
    *,
    fraction: float = PRESENT,
    floor: float = 0.0,
    bootstrap: Bootstrap = Bootstrap(resamples=1_000),
    ordered: bool = True,
) -> pd.DataFrame:
    """Share of features with each life cycle, with an interval over prompts.

    The interval is the spread of the share over resampled prompts. Because a life cycle is a threshold on noisy values,
    the interval need not contain the share itself; if it does not, the life cycles depend on single prompts (see
    `life_cycle_support`).

    Args:
        values: effects or norms of K features at C checkpoints.
        per_prompt: effect of each feature on each of P prompts at each checkpoint; without it there is no interval.
        fraction, floor: see `present`.
        bootstrap: of the interval.
        ordered: whether the checkpoints are points of one training.

    Returns:
        One row for each of `LIFE_CYCLES`, or of `SHARING` for models side by side: life_cycle, count, share, low, high
        (NaN without `per_prompt`).

    Examples:
        >>> shares = life_cycle_shares(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).set_index("life_cycle").share
        >>> shares[["emerging", "always", "never"]].tolist()
        [0.5, 0.5, 0.0]
    """
    n_features = max(1, len(values))
    presence = present(values, fraction, floor=floor)
    names = pattern_names(ordered=ordered)
    counts = _counts(life_cycle_numbers(presence, ordered=ordered).unsqueeze(0), len(names))[0]
    low = high = torch.full((len(names),), float("nan"))
    if per_prompt is not None:
        resampled = present(resampled_means(per_prompt, bootstrap), fraction, floor=floor)
        low, high = interval(
            _counts(life_cycle_numbers(resampled, ordered=ordered), len(names)) / n_features, bootstrap
        )
    return pd.DataFrame(
        {
            "life_cycle": list(names),
            "count": counts.long().numpy(),
            "share": (counts / n_features).numpy(),
            "low": low.numpy(),
            "high": high.numpy(),
        }
    )


def _counts(numbers: Int[Tensor, "R K"], n_names: int) -> Float[Tensor, "R L"]:
    """How many of K features have each of the L life cycles, for each of R resamples."""
    return torch.stack([(numbers == number).sum(1) for number in range(n_names)], 1).double()


def _sharing_labels(presence: Bool[Tensor, "K C"], revisions: Sequence[str]) -> list[str]:
    """For each feature the models that have it, in words: "specific to chat", "shared by base and chat"."""
    labels: dict[tuple[bool, ...], str] = {}
    patterns = [tuple(pattern) for pattern in presence.tolist()]
    for pattern in set(patterns):
        names = [name for name, there in zip(revisions, pattern, strict=True) if there]
        if len(names) == len(revisions):
            labels[pattern] = "shared"
        elif len(names) > 1:
            labels[pattern] = f"shared by {', '.join(names[:-1])} and {names[-1]}"
        else:
            labels[pattern] = f"specific to {names[0]}" if names else "never"
    return [labels[pattern] for pattern in patterns]


def _label(life_cycle: str, first: object, last: object) -> str:
    """A life cycle with its checkpoints, in words."""
    if life_cycle == "emerging":
        return f"emerges at {first}"
    if life_cycle == "discontinued":
        return f"discontinued after {last}"
    if life_cycle == "maintained":
        return f"maintained from {first} to {last}"
    if life_cycle == "transient":
        return f"transient at {first}"
    if life_cycle == "intermittent":
        return f"intermittent from {first} to {last}"
    return life_cycle
