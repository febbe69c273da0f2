"""Bootstrap over prompts: how much a mean would vary with other prompts of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.errors import InterventionError

MOST_COUNTS = 1 << 22
"""Counts of prompts that are drawn at a time: 32 MB of integers."""


@dataclass(frozen=True)
class Bootstrap:
    """Options of the percentile bootstrap over prompts.

    Attributes:
        resamples: number R of resamples.
        seed: of the resamples. A function that also draws random controls uses the same seed for them.
        level: coverage of the intervals, between 0 and 1.

    Raises:
        InterventionError: fewer than one resample, a negative seed, or a level outside (0, 1).

    Examples:
        >>> Bootstrap(resamples=2_000).level
        0.95
    """

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise InterventionError(f"A bootstrap needs at least one resample, not {self.resamples}.")
        if self.seed < 0:
            raise InterventionError(f"The seed of a bootstrap must not be negative, but is {self.seed}.")
        if not 0 < self.level < 1:
            raise InterventionError(f"The level of an interval must lie between 0 and 1, not {self.level}.")


def resample_counts(n: int, bootstrap: Bootstrap, *, stream: int | None = None) -> Int[np.ndarray, "R n"]:
    """Draw how often each of n items, such as prompts, occurs in each of R resamples with replacement.

    A row adds up to n. The counts depend only on n, the number of resamples, the seed and the stream.

    Args:
        n: number of items.
        bootstrap: number R and seed of the resamples.
        stream: number of a stream of draws that are independent of those of other streams and of those without a
            stream, for two sets of items with the same seed.

    Examples:
        >>> resample_counts(4, Bootstrap(resamples=3)).sum(1).tolist()
        [4, 4, 4]
    """
    return np.concatenate(list(_count_chunks(n, bootstrap, stream)))


def _count_chunks(n: int, bootstrap: Bootstrap, stream: int | None = None) -> Iterator[Int[np.ndarray, "r n"]]:
    """The rows of `resample_counts`, at most `MOST_COUNTS` numbers at a time."""
    generator = np.random.default_rng(bootstrap.seed if stream is None else [bootstrap.seed, stream])
    chunk = max(1, MOST_COUNTS // n)
    for start in range(0, bootstrap.resamples, chunk):
        yield generator.multinomial(n, np.full(n, 1 / n), size=min(chunk, bootstrap.resamples - start))


def resampled_means(values: Float[Tensor, "P ..."], bootstrap: Bootstrap = Bootstrap()) -> Float[Tensor, "R ..."]:
    """Compute means of `values` over prompts that are drawn with replacement, one for each resample.

    The same seed draws the same prompts, so that several checkpoints that were measured on the same prompts can be
    compared resample by resample.

    Args:
        values: one row for each prompt.
        bootstrap: number R and seed of the resamples.

    Returns:
        One mean for each resample, in float64.

    Examples:
        >>> resampled_means(torch.ones(5, 2), Bootstrap(resamples=3)).tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    n_prompts = len(values)
    flat = values.double().reshape(n_prompts, -1)
    # Chunks of resamples bound the memory
    means = [torch.from_numpy(counts).double() @ flat / n_prompts for counts in _count_chunks(n_prompts, bootstrap)]
    return torch.cat(means).reshape(bootstrap.resamples, *values.shape[1:])


def interval(
    samples: Float[Tensor, "R ..."], bootstrap: Bootstrap = Bootstrap()
) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """Compute lower and upper percentile bounds of bootstrap samples; samples that are NaN are left out.

    Args:
        samples: a statistic of each of R resamples.
        bootstrap: level of the interval.

    Returns:
        The bounds, without the axis of the resamples; NaN where every sample is NaN.

    Examples:
        >>> low, high = interval(torch.arange(101.0), Bootstrap(level=0.9))
        >>> round(float(low), 3), round(float(high), 3)
        (5.0, 95.0)
    """
    tail = (1 - bootstrap.level) / 2
    array = samples.double().numpy()
    has_values = np.isfinite(array).any(axis=0)

    # Quantiles of columns without a single number would raise a warning.
    bounds = np.full((2, *array.shape[1:]), np.nan)
    if has_values.all():
        bounds = np.nanquantile(array, [tail, 1 - tail], axis=0)
    elif has_values.any():
        bounds[:, has_values] = np.nanquantile(array[:, has_values], [tail, 1 - tail], axis=0)

    return torch.from_numpy(np.asarray(bounds[0])), torch.from_numpy(np.asarray(bounds[1]))


def bootstrap_interval(
    values: Float[Tensor, "P ..."],
    bootstrap: Bootstrap = Bootstrap(),
    *,
    statistic: Callable[[Tensor], Tensor] = lambda means: means,
) -> tuple[Tensor, Tensor]:
    """Compute the percentile interval of ``statistic(mean over prompts)``.

    Args:
        values: one row for each prompt.
        bootstrap: resamples, seed and level.
        statistic: a function of means ``R *K`` that keeps the first axis; by default the means themselves.

    Returns:
        The lower and the upper bound, with the shape ``*K`` of the statistic.

    Examples:
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 50))
        >>> bool(low < 0.5 < high)
        True

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    return interval(statistic(resampled_means(values, bootstrap)), bootstrap)
