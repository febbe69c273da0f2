"""Temporal tables of a large dictionary: onsets, rotation and dimensionality, without anything of size F x F."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.memory import HOW, footprint
from benchmarks.result import Result, Row
from crosstime import CrossCoder, Site
from crosstime.crosscoders.origin import Origin
from crosstime.evolution.decoders import decoder_evolution

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Dictionary:
    """How large it is: F, C and D."""

    features: int
    checkpoints: int
    d_model: int


FULL, QUICK = Dictionary(98_304, 32, 768), Dictionary(4_096, 4, 128)


def benchmark(quick: bool, device: torch.device) -> Result:
    """Seconds and memory beyond the weights of `decoder_evolution`; on the CPU, where the tables are made."""
    sizes = QUICK if quick else FULL
    found = footprint(prepare, sizes)
    case = f"F {sizes.features:,}, C {sizes.checkpoints}, D {sizes.d_model}"
    weights = sizes.features * sizes.checkpoints * sizes.d_model * 4
    rows = (
        Row.within(case, "seconds", found.seconds, 60.0),
        Row.within(case, "extra MB", found.extra / MEGABYTE, 2_048.0),
        Row.alone(case, "MB of decoder weights", weights / MEGABYTE),
        Row.alone(case, "rows of the tables", float(found.value)),
    )
    told = {"memory": HOW, "threads": torch.get_num_threads()}
    return Result("temporal", device.type, told, rows)


def prepare(sizes: Dictionary) -> tuple[Callable[[], int], Callable[[], int]]:
    """For `footprint`: the tables of a few random features, and those of all; gives how many rows they have."""
    return prepare_tables(Dictionary(64, sizes.checkpoints, sizes.d_model)), prepare_tables(sizes)


def prepare_tables(sizes: Dictionary) -> Callable[[], int]:
    """A call that makes all tables of a random decoder, which is built before."""
    revisions = tuple(f"step{c}" for c in range(sizes.checkpoints))
    crosscoder = CrossCoder(Origin("random", revisions, Site(0), sizes.d_model), n_features=1)
    generator = torch.Generator().manual_seed(0)
    directions = torch.empty(sizes.features, sizes.checkpoints, sizes.d_model).normal_(generator=generator)
    # The tables read the decoder alone, and the machine need not hold an encoder of the same size.
    crosscoder.W_dec = nn.Parameter(directions, requires_grad=False)

    def call() -> int:
        return sum(len(table) for table in decoder_evolution(crosscoder).values())

    return call
