"""Bootstrap over prompts: how far a mean would move with other prompts of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interventions.errors import InterventionError

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are estimated: by the percentile bootstrap over prompts.

    Attributes:
        resamples: number of resamples.
        seed: of the resamples; a function that also draws random controls draws them from the same seed.
        level: coverage of the intervals, between 0 and 1.

    Raises:
        InterventionError: fewer than one resample, a negative seed, or a level outside (0, 1).

    Examples:
        >>> Bootstrap(resamples=2_000).level
        0.95
    """

    resamples: int = RESAMPLES
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise InterventionError(f"A bootstrap needs at least one resample, not {self.resamples}.")
        if self.seed < 0:
            raise InterventionError(f"The seed of a bootstrap must not be negative, but is {self.seed}.")
        if not 0 < self.level < 1:
            raise InterventionError(f"The level of an interval must lie between 0 and 1, not {self.level}.")


def resampled_means(
    values: Float[Tensor, "P ..."], *, resamples: int = RESAMPLES, seed: int = 0
) -> Float[Tensor, "R ..."]:
    """Means of `values` over prompts drawn with replacement, `resamples` times.

    The same seed draws the same prompts, so that numbers of several checkpoints on the same prompts can
    be compared resample by resample.

    Examples:
        >>> resampled_means(torch.ones(5, 2), resamples=3).tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    n = len(values)
    generator = np.random.default_rng(seed)
    flat = values.double().reshape(n, -1)
    at_once = max(1, (1 << 22) // n)
    pieces = []
    for start in range(0, resamples, at_once):
        counts = generator.multinomial(n, np.full(n, 1 / n), size=min(at_once, resamples - start))
        pieces.append(torch.from_numpy(counts).double() @ flat / n)
    return torch.cat(pieces).reshape(resamples, *values.shape[1:])


def interval(samples: Float[Tensor, "R ..."], level: float = LEVEL) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """Lower and upper percentile bounds of bootstrap samples; resamples that are NaN are left out.

    Examples:
        >>> low, high = interval(torch.arange(101.0), level=0.9)
        >>> round(float(low), 3), round(float(high), 3)
        (5.0, 95.0)
    """
    tail = (1 - level) / 2
    array = samples.double().numpy()
    defined = np.isfinite(array).any(axis=0)
    bounds = np.full((2, *array.shape[1:]), np.nan)
    if defined.all():
        bounds = np.nanquantile(array, [tail, 1 - tail], axis=0)
    elif defined.any():
        bounds[:, defined] = np.nanquantile(array[:, defined], [tail, 1 - tail], axis=0)
    return torch.from_numpy(np.asarray(bounds[0])), torch.from_numpy(np.asarray(bounds[1]))


def bootstrap_interval(
    values: Float[Tensor, "P ..."],
    statistic: Callable[[Tensor], Tensor] = lambda means: means,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Tensor, Tensor]:
    """Percentile interval of ``statistic(mean over prompts)``.

    Args:
        values: one row a prompt.
        statistic: a function of means ``R *K`` that keeps the first axis.
        resamples, seed, level: of the bootstrap.

    Examples:
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 50))
        >>> bool(low < 0.5 < high)
        True
    """
    return interval(statistic(resampled_means(values, resamples=resamples, seed=seed)), level)
