"""Training with the features divided among processes: memory of each, and bytes that they exchange in a step.

The processes share the cores of one machine, so that seconds a step show what dividing costs, not what it saves.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.memory import MEASUREMENT, footprints
from benchmarks.result import Result, Row
from benchmarks.timing import seconds
from crosstime import Site
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.machine.processes import ALONE, join_processes
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of

MEGABYTE = 1 << 20
STEPS = 4


@dataclass(frozen=True)
class Dictionary:
    """Sizes of a training run: F, C, D and the tokens of a batch."""

    features: int
    checkpoints: int
    d_model: int
    batch: int

    @property
    def weights(self) -> int:
        """Bytes of weights, gradients and the two moments of Adam."""
        return 16 * 2 * self.checkpoints * self.d_model * self.features

    @property
    def activations(self) -> int:
        """Bytes of one batch, which every process holds: the activations."""
        return 4 * self.batch * self.checkpoints * self.d_model


FULL, QUICK = Dictionary(65_536, 3, 256, 512), Dictionary(8_192, 2, 64, 128)
KINDS: dict[str, Callable[[int], TrainerConfig]] = {
    "L1": lambda features: L1Config(n_features=features, steps=100),
    "BatchTopK 32": lambda features: BatchTopKConfig(n_features=features, k=32, k_start=None, steps=100),
}


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure one, two and four processes of each kind, on the CPU."""
    sizes = QUICK if quick else FULL
    rows = [row for kind in KINDS for row in measure(kind, sizes, (1, 2) if quick else (1, 2, 4))]
    details = {
        **{"features": sizes.features, "checkpoints": sizes.checkpoints, "d_model": sizes.d_model},
        **{"batch": sizes.batch, "steps": STEPS, "memory": MEASUREMENT, "threads": "1 a process"},
    }
    return Result("sharding", device.type, details, tuple(rows))


def measure(kind: str, sizes: Dictionary, numbers: tuple[int, ...]) -> list[Row]:
    """Compare several numbers of shards with the first one."""
    rows: list[Row] = []
    alone = largest_extra(kind, sizes, numbers[0])
    for n_shards in numbers:
        extra, duration = alone if n_shards == numbers[0] else largest_extra(kind, sizes, n_shards)
        case = f"{kind}, {n_shards} shards"
        bound = 1.15 * alone[0] / n_shards + 3 * sizes.activations
        rows += [
            Row.within(case, "extra MB of a process", extra / MEGABYTE, bound / MEGABYTE),
            Row.less(case, "extra MB of a process", extra / MEGABYTE, alone[0] / MEGABYTE, "1 shard"),
            Row.less(case, "seconds a step", duration, alone[1], "1 shard"),
            # Each process sends its partial reconstruction and receives the sum
            Row.alone(case, "MB of reconstructions a step", 2 * sizes.activations * (n_shards > 1) / MEGABYTE),
        ]
    return rows


def largest_extra(kind: str, sizes: Dictionary, n_shards: int) -> tuple[float, float]:
    """Memory of the process with the most, and its seconds for a step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    measured = footprints(prepare, [(kind, sizes, rank, n_shards, port) for rank in range(n_shards)])
    largest = max(measured, key=lambda footprint: footprint.extra)
    return largest.extra, largest.value


def prepare(
    kind: str, sizes: Dictionary, rank: int, n_shards: int, port: int
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Prepare for `footprints`: steps on a small crosscoder, and on the whole one; the value is seconds a step."""
    torch.set_num_threads(1)
    if n_shards > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n_shards)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def steps(features: int) -> float:
        processes = join_processes(torch.device("cpu")) if n_shards > 1 else ALONE
        config = KINDS[kind](features)
        origin = Origin("random", tuple(f"step{c}" for c in range(sizes.checkpoints)), Site(0), sizes.d_model)
        crosscoder = config.crosscoder(origin, shard=FeatureShard(features, processes))
        trainer = trainer_of(config, crosscoder)
        generator = torch.Generator().manual_seed(0)

        def step(number: int) -> None:
            trainer.update(number, torch.randn(sizes.batch, sizes.checkpoints, sizes.d_model, generator=generator))

        step(0)
        return seconds(lambda: [step(number) for number in range(1, STEPS)]) / (STEPS - 1)

    return lambda: steps(64 * n_shards), lambda: steps(sizes.features)
