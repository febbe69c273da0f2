"""Waiting for activations in training: checkpoints that stay in memory against checkpoints reloaded at each refill.

A crosscoder is trained on activations that are computed on the fly, once without memory for open checkpoints (which is
what happened before they could stay open) and once with. The wall time of a training is divided into opening
checkpoints, their forward passes, other work of the buffer (tokenizing, shuffling, copying), and optimiser steps.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.origin import Origin
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.training.data import TrainingData
from crosstime.training.l1 import L1Config
from crosstime.training.trainer_of import trainer_of
from interventions import MAX_TOKENS, Model, Site
from tasks.agreement import sentences

CHECKPOINTS = (3, 16)
LENGTH = 64
"""Tokens of a sequence."""
REFILL = 4
"""Batches in the buffer, half of which are read in each refill."""


@dataclass(frozen=True)
class Timed(Compute):
    """Notes how long opening checkpoints takes, and how long their forward passes take."""

    spent: Counter[str] = field(default_factory=Counter)

    def open(self, suite: Suite, revision: str) -> Model:
        """Open a checkpoint as `Compute` does, and count it."""
        with _noted(self.spent, "opening"):
            model = super().open(suite, revision)
        self.spent["openings"] += 1
        module = model.module
        module.register_forward_pre_hook(lambda *_: self.spent.update(forward=-time.perf_counter()))
        module.register_forward_hook(lambda *_: self.spent.update(forward=time.perf_counter()), always_call=True)
        return model


@dataclass(frozen=True)
class Shares:
    """Where the wall time of a training went, in seconds, and how many checkpoints were opened."""

    total: float
    opening: float
    forward: float
    waiting: float
    first: int
    later: int
    tokens: int


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure shares of the wall time of trainings of 3 and of 16 checkpoints."""
    sizes = replace(sizes_for(device, quick=quick)[0], features=256 if quick else 1024, runs=1)
    if not quick:
        sizes = replace(sizes, d_model=256, n_layers=6, vocabulary=8_192)
    steps, batch = (16, 256) if quick else (80, 1024)
    rows = [row for c in CHECKPOINTS for row in measure(replace(sizes, checkpoints=c), device, steps, batch)]
    shown = sizes.as_dict() | {"checkpoints": list(CHECKPOINTS), "steps": steps, "batch": batch, "sequence": LENGTH}
    for unused in ("active", "prompts", "shortest", "longest"):
        shown.pop(unused, None)
    return Result("harvesting", device.type, shown, tuple(rows))


def measure(sizes: Sizes, device: torch.device, steps: int, batch: int) -> list[Row]:
    """Train twice in the same process, without and with memory for open checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        suite, site = suite_on_disk(build(sizes, device), Path(folder) / "suite")
        with Compute(device=str(device), dtype=sizes.dtype).open(suite, suite.revisions[0]):
            # The first opening in a process imports code and hashes files
            pass
        before = train(suite, site, sizes, device, steps, batch, resident_gb=0.0)
        after = train(suite, site, sizes, device, steps, batch, resident_gb=None)
    case, per_million = f"C {sizes.checkpoints}, {sizes.dtype}", 1e6 / after.tokens
    percent = [100 * part / run.total for run in (after, before) for part in (run.opening, run.waiting)]
    return [
        Row.less(case, "seconds of training", after.total, before.total, "reloaded"),
        Row.less(case, "% of the time opening checkpoints", percent[0], percent[2], "reloaded"),
        Row.within(case, "% of the time waiting beyond forward passes, after the first filling", percent[1], 5.0),
        Row.alone(case, "the same, reloaded", percent[3]),
        Row.less(
            *(case, "openings per million tokens, after the first filling"),
            *(after.later * per_million, before.later * per_million, "reloaded"),
        ),
        Row.within(case, "openings after the first filling", after.later, 1e-9),
        Row.alone(case, "% of the time in forward passes", 100 * after.forward / after.total),
    ]


def train(
    suite: Suite, site: Site, sizes: Sizes, device: torch.device, steps: int, batch: int, *, resident_gb: float | None
) -> Shares:
    """Train as `crosstime.train` does, with a clock."""
    config = L1Config(n_features=sizes.features, steps=steps, lr=1e-3, l1=0.1)
    data = DataConfig(batch_size=batch, sequence_length=LENGTH, buffer_tokens=REFILL * batch)
    compute = Timed(
        device=str(device), dtype=sizes.dtype, max_tokens=MAX_TOKENS, resident_gb=resident_gb, spent=Counter()
    )
    spent, text = compute.spent, list(sentences(20_000, seed=0))
    training = TrainingData(
        suite=suite, site=site, corpus=text, config=data, limit=steps * batch, compute=compute, reserved=0
    )
    origin = Origin(suite.name, suite.revisions, site, suite.d_model)

    began = time.perf_counter()
    with closing(training):
        batches = training.batches()
        trainer = trainer_of(config, config.crosscoder(origin, batches.scales).to(device))
        first, forward = spent["openings"], spent["forward"]
        for step in range(steps):
            with _noted(spent, "batches"):
                x = next(batches).to(device)
            trainer.update(step, x)
        if device.type == "cuda":
            torch.cuda.synchronize()
        total = time.perf_counter() - began

    waiting = spent["batches"] - (spent["forward"] - forward)
    return Shares(
        total=total,
        opening=spent["opening"],
        forward=spent["forward"],
        waiting=waiting,
        first=first,
        later=spent["openings"] - first,
        tokens=batches.tokens,
    )


def suite_on_disk(setting: Setting, folder: Path) -> tuple[Suite, Site]:
    """Write the models of a setting as checkpoints."""
    for c, model in enumerate(setting.models):
        model.module.save_pretrained(folder / f"step{c}")
        model.tokenizer.save_pretrained(folder / f"step{c}")
    return Suite.open(folder), setting.site


@contextmanager
def _noted(spent: Counter[str], name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        spent[name] += time.perf_counter() - began
