"""Number of active features up to which sparse sums are faster than dense products, in a BatchTopK training step.

Both take the same steps; the TopK trainers choose between them by `SPARSE_BELOW` (`crosscoders/sparse_codes.py`). This
benchmark forces each of them. A ratio above 1 means that sparse sums are faster; `SPARSE_BELOW` should be the share of
active features at which the ratio is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch

from benchmarks.cases.training import LR, activations, trainer
from benchmarks.cases.training import Sizes as StepSizes
from benchmarks.result import Result, Row
from benchmarks.timing import medians
from crosstime import BatchTopKConfig
from crosstime.crosscoders.sparse_codes import SPARSE_BELOW

DENSE, SPARSE = 0.0, 2.0
"""Values of `SPARSE_BELOW` that force dense products, and sparse sums."""


@dataclass(frozen=True)
class Sizes(StepSizes):
    """Sizes of a step; `k` lists the numbers of active features per token to compare."""

    k: tuple[int, ...] = (8, 16, 32, 64, 128, 192, 256, 384, 512, 1_024)
    runs: int = 5


FULL = Sizes()
QUICK = Sizes(width=128, checkpoints=2, features=1_024, batch=256, k=(8, 32, 128), runs=3)
PYTHIA_1B = Sizes(width=2_048, features=16_384, batch=4_096)


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure the time of a step in both ways for each k, and the share of active features at which they are equal."""
    sizes = QUICK if quick else FULL if device.type == "cpu" else PYTHIA_1B
    precision = "float32" if device.type == "cpu" else "bfloat16"
    rows, ratios = [], []
    for k in sizes.k:
        times = both(replace(sizes, k=(k,)), device, precision)
        case = f"k {k}, {k / sizes.features:.3g} of the features, {precision}"
        rows.append(Row.less(case, "seconds a step", times["sparse"], times["dense"], "dense products"))
        ratios.append(times["dense"] / times["sparse"])
    share = crossover([k / sizes.features for k in sizes.k], ratios)
    name = "share of active features where both are equal"
    rows.append(Row("all", name, share, SPARSE_BELOW[device.type], "SPARSE_BELOW"))
    return Result("crossover", device.type, asdict(sizes), tuple(rows))


def both(sizes: Sizes, device: torch.device, precision: str) -> dict[str, float]:
    """Return the time of a BatchTopK step in seconds, with sparse sums and with dense products."""
    x = activations(sizes, device)
    config = BatchTopKConfig(n_features=sizes.features, steps=10**6, lr=LR, k=sizes.k[0], k_start=None)
    ours = trainer(config, sizes, device, precision)

    def step(share: float) -> None:
        with forced(device, share):
            ours.update(1, x)

    return medians({"sparse": lambda: step(SPARSE), "dense": lambda: step(DENSE)}, sizes.runs)


@contextmanager
def forced(device: torch.device, share: float) -> Iterator[None]:
    """Replace the share at which the trainers switch, temporarily."""
    previous = SPARSE_BELOW[device.type]
    SPARSE_BELOW[device.type] = share
    try:
        yield
    finally:
        SPARSE_BELOW[device.type] = previous


def crossover(shares: Sequence[float], ratios: Sequence[float]) -> float:
    """Return the share at which the ratio falls below 1 for good, interpolated on logarithmic scales.

    If the ratio is always below 1 or still above it at the end, this is the corresponding end of the range.

    Examples:
        >>> round(crossover([0.01, 0.04], [2.0, 0.5]), 6)
        0.02
    """
    last = max((index for index, ratio in enumerate(ratios) if ratio > 1), default=None)
    if last is None:
        return shares[0]
    if last == len(shares) - 1:
        return shares[-1]
    low, high = math.log(ratios[last]), math.log(ratios[last + 1])
    position = low / (low - high)
    return math.exp(math.log(shares[last]) * (1 - position) + math.log(shares[last + 1]) * position)
