"""Temporal tables of a large dictionary: onsets, rotation and dimensionality, without a matrix of size F x F."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.memory import MEASUREMENT, footprint
from benchmarks.result import Result, Row
from crosstime import CrossCoder, Site
from crosstime.crosscoders.origin import Origin
from crosstime.evolution.decoder_evolution import decoder_evolution

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Dictionary:
    """Sizes of a dictionary: F, C and D."""

    features: int
    checkpoints: int
    d_model: int


FULL, QUICK = Dictionary(98_304, 32, 768), Dictionary(4_096, 4, 128)


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure time and memory of `decoder_evolution`, above its weights, on the CPU."""
    sizes = QUICK if quick else FULL
    measured = footprint(prepare, sizes)
    case = f"F {sizes.features:,}, C {sizes.checkpoints}, D {sizes.d_model}"
    weights = sizes.features * sizes.checkpoints * sizes.d_model * 4
    rows = (
        Row.within(case, "seconds", measured.seconds, 60.0),
        Row.within(case, "extra MB", measured.extra / MEGABYTE, 2_048.0),
        Row.alone(case, "MB of decoder weights", weights / MEGABYTE),
        Row.alone(case, "rows of the tables", float(measured.value)),
    )
    details = {"memory": MEASUREMENT, "threads": torch.get_num_threads()}
    return Result("temporal", device.type, details, rows)


def prepare(sizes: Dictionary) -> tuple[Callable[[], int], Callable[[], int]]:
    """Prepare for `footprint`: the tables of a few random features, and of all; the value is their number of rows."""
    return prepare_tables(Dictionary(64, sizes.checkpoints, sizes.d_model)), prepare_tables(sizes)


def prepare_tables(sizes: Dictionary) -> Callable[[], int]:
    """Return a call that computes all tables of a random decoder, which is created beforehand."""
    revisions = tuple(f"step{c}" for c in range(sizes.checkpoints))
    crosscoder = CrossCoder(Origin("random", revisions, Site(0), sizes.d_model), n_features=1)
    generator = torch.Generator().manual_seed(0)
    directions = torch.empty(sizes.features, sizes.checkpoints, sizes.d_model).normal_(generator=generator)
    # Only the decoder is needed, so no memory is spent on an encoder of the same size
    crosscoder.W_dec = nn.Parameter(directions, requires_grad=False)

    def call() -> int:
        return sum(len(table) for table in decoder_evolution(crosscoder).values())

    return call
