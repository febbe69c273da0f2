"""Several dictionaries from one pass of the activations: what the second and third add, and their weights.

`crosstime.train_several` trains three dictionaries together: three seeds, and three kinds of different sizes. What is
left of the wall time without the optimiser steps (opening checkpoints, forward passes, the buffer, the log) is compared
with that of a training of the first dictionary alone, and the whole with three trainings one after another. Each
dictionary is compared with the one that `crosstime.train` gives for its configuration.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.cases.harvesting import LENGTH, suite_on_disk
from benchmarks.result import Result, Row
from benchmarks.setting import Sizes, build, sizes_for
from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.train import train
from crosstime.training.train_several import train_several
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from interventions import MAX_TOKENS, Site
from tasks.agreement import sentences

LIMIT = 1.15
"""Upper bound of the cost of the activations of several dictionaries, as a multiple of that of one."""
REFILL = 4
"""Batches in the buffer, half of which are read in each refill."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What the dictionaries are trained on.

    Attributes:
        suite, site: checkpoints on disk, and where activations are read.
        data, compute: as for `crosstime.train`.
        text: documents.
    """

    suite: Suite
    site: Site
    data: DataConfig
    compute: Compute
    text: list[str]


@dataclass(frozen=True)
class Training:
    """Wall time of one or several trainings in seconds, and of the optimiser steps among it."""

    total: float
    steps: float

    @property
    def activations(self) -> float:
        """Seconds apart from the optimiser steps."""
        return self.total - self.steps


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure three seeds, and three kinds and sizes, of three checkpoints."""
    sizes = replace(
        sizes_for(device, quick=quick)[0], features=256 if quick else 512, checkpoints=3, runs=2 if quick else 3
    )
    if not quick:
        sizes = replace(sizes, d_model=256, n_layers=6, vocabulary=8_192)
    steps, batch = (16, 256) if quick else (24, 1024)
    with tempfile.TemporaryDirectory() as folder:
        problem = problem_of(sizes, device, batch, Path(folder) / "suite")
        rows = [
            row
            for case, configs in cases(sizes.features, steps).items()
            for row in measure(case, configs, problem, sizes.runs)
        ]
    shown = sizes.as_dict() | {"steps": steps, "batch": batch, "sequence": LENGTH}
    for unused in ("active", "prompts", "shortest", "longest"):
        shown.pop(unused, None)
    return Result("seeds", device.type, shown, tuple(rows))


def problem_of(sizes: Sizes, device: torch.device, batch: int, folder: Path) -> Problem:
    """Write random checkpoints to a folder, and describe a training on them."""
    suite, site = suite_on_disk(build(sizes, device), folder)
    data = DataConfig(batch_size=batch, sequence_length=LENGTH, buffer_tokens=REFILL * batch)
    compute = Compute(device=str(device), dtype=sizes.dtype, max_tokens=MAX_TOKENS)
    return Problem(suite, site, data, compute, list(sentences(20_000, seed=0)))


def cases(features: int, steps: int) -> dict[str, list[TrainerConfig]]:
    """Return the configurations that are trained together, by name."""
    topk = BatchTopKConfig(n_features=features, steps=steps, lr=1e-3, k=16)
    return {
        "3 seeds": [replace(topk, seed=seed) for seed in range(3)],
        "3 kinds and sizes": [
            L1Config(n_features=features, steps=steps, lr=1e-3, l1=0.1),
            BatchTopKConfig(n_features=features // 2, steps=steps, lr=1e-3, k=16, seed=1),
            JumpReLUConfig(n_features=features // 4, steps=steps, lr=1e-3, seed=2),
        ],
    }


def measure(case: str, configs: Sequence[TrainerConfig], problem: Problem, runs: int) -> list[Row]:
    """Train together, the first alone, and all one after another; the trainings are interleaved."""
    # Compare the weights; this is the warm-up as well
    together = trained_together(problem, configs)
    difference = max(
        largest_difference(crosscoder, alone)
        for crosscoder, alone in zip(together, trained_apart(problem, configs), strict=True)
    )

    # Time the trainings
    calls: dict[str, Callable[[], object]] = {
        "together": lambda: trained_together(problem, configs),
        "first": lambda: trained_apart(problem, configs[:1]),
        "apart": lambda: trained_apart(problem, configs),
    }
    timings: dict[str, list[Training]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            timings[name].append(timed(call))

    # The ratio is that of each run, because other work on the machine slows both
    pairs = zip(timings["together"], timings["first"], strict=True)
    ratio = statistics.median(several.activations / single.activations for several, single in pairs)
    total = {name: statistics.median(training.total for training in timings[name]) for name in calls}
    share = statistics.median(training.activations / training.total for training in timings["first"])
    return [
        Row.within(case, "largest difference of a weight from a training alone", difference, 0.0),
        Row.within(case, "cost of the activations, as a multiple of one dictionary's", ratio, LIMIT),
        Row.less(case, "seconds of training", total["together"], total["apart"], "one after another"),
        Row.alone(case, "the same, of the first alone", total["first"]),
        Row.alone(case, "% of the time of the first alone apart from its steps", 100 * share),
    ]


def trained_together(problem: Problem, configs: Sequence[TrainerConfig]) -> list[CrossCoder]:
    """Train all dictionaries from one pass of the activations."""
    results = train_several(
        problem.suite, problem.site, problem.text, configs, data=problem.data, compute=problem.compute
    )
    return [result.crosscoder for result in results]


def trained_apart(problem: Problem, configs: Sequence[TrainerConfig]) -> list[CrossCoder]:
    """Train each dictionary from a pass of its own."""
    return [
        train(problem.suite, problem.site, problem.text, config, data=problem.data, compute=problem.compute).crosscoder
        for config in configs
    ]


def timed(call: Callable[[], object]) -> Training:
    """Return the wall time of trainings, and of the steps among it."""
    with clocked_steps() as steps:
        began = time.perf_counter()
        call()
        total = time.perf_counter() - began
    return Training(total, sum(steps))


@contextmanager
def clocked_steps() -> Iterator[list[float]]:
    """Note the wall time of every optimiser step; on a GPU, a step ends when the device has finished it."""
    steps: list[float] = []
    update = Trainer.update

    def clocked(self: Trainer, step: int, x: Float[Tensor, "B C D"]) -> Float[Tensor, ""]:
        _wait(x.device)
        began = time.perf_counter()
        loss = update(self, step, x)
        _wait(x.device)
        steps.append(time.perf_counter() - began)
        return loss

    with patch.object(Trainer, "update", clocked):
        yield steps


def largest_difference(first: CrossCoder, second: CrossCoder) -> float:
    """Return the largest absolute difference of any number of two crosscoders."""
    tensors, others = first.state_dict(), second.state_dict()
    if tensors.keys() != others.keys():
        return float("inf")
    return max(float((tensor.double() - others[name].double()).abs().max()) for name, tensor in tensors.items())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
