"""Planted problems: do trained crosscoders recover which features are shared and which are specific to a checkpoint?"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.result import Result, Row
from benchmarks.timing import seconds
from crosstime.evolution.recovery import DECODER, recovery
from crosstime.training.kinds import KINDS
from crosstime.training.plant import PlantedProblem, plant, train_planted
from crosstime.training.trainer_config import TrainerConfig

TARGET = 0.9
PLAIN = "plain"
SETTINGS: dict[str, dict[str, Any]] = {
    "l1": {"l1": 0.3, "lr": 3e-3},
    "topk": {"lr": 3e-3},
    "batchtopk": {"lr": 3e-3},
    "jumprelu": {"sparsity": 1.0, "lr": 3e-3, "threshold": 0.1, "bandwidth": 0.5},
    "jumprelu_per_checkpoint": {"sparsity": 0.3, "lr": 3e-3, "threshold": 0.1, "bandwidth": 0.5},
}
"""Hyper-parameters of each kind; those of BatchTopK were tuned on another seed of the plain problem."""
WEAK_KINDS = ("l1", "batchtopk")
"""Kinds that are also trained on weakly shared features: L1 tends to shrink these, BatchTopK has no penalty."""


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure precision and recall of every kind on a plain problem, and on one with weakly shared features."""
    sizes = {"n_features": 64, "d_model": 32, "density": 2.0} if quick else {"n_features": 512, "d_model": 128}
    steps, batch_size = (100, 128) if quick else (1_500, 512)
    rows: list[Row] = []
    problems = {PLAIN: plant(**sizes), "half of the shared ones weak": plant(**sizes, weak=0.5)}
    for problem, planted in problems.items():
        kinds = KINDS if problem == PLAIN else WEAK_KINDS
        for kind in ("batchtopk",) if quick else kinds:
            rows += measure(problem, planted, settings(kind, planted, steps), batch_size)
    details = {"planted": sizes.get("n_features"), "checkpoints": 3, "d_model": sizes["d_model"]}
    details |= {"density": planted.density, "steps": steps, "batch_size": batch_size}
    return Result("synthetic", device.type, details, tuple(rows))


def settings(kind: str, planted: PlantedProblem, steps: int) -> TrainerConfig:
    """Return the hyper-parameters of a kind for a problem."""
    options = dict(SETTINGS[kind])
    # A quarter more features than planted: with the same number, some are never recovered
    n_features = 5 * planted.n_features // 4
    if kind in ("topk", "batchtopk"):
        start = min(8 * round(planted.density), n_features)
        options |= {"k": round(1.1 * planted.density), "k_start": start, "k_steps": 2 * steps // 3, "dead_after": 5_000}
    return KINDS[kind](n_features=n_features, steps=steps, decoder_norm=0.3, **options)


def measure(problem: str, planted: PlantedProblem, config: TrainerConfig, batch_size: int) -> list[Row]:
    """Train one kind and measure what it recovers; only BatchTopK on the plain problem has a target."""
    trained: list[Any] = []
    duration = seconds(lambda: trained.append(train_planted(planted, config, batch_size=batch_size)))
    rows = []
    for recovered in recovery(planted, trained[0]).itertuples(index=False):
        has_target = (problem, config.kind, recovered.by) == (PLAIN, "batchtopk", DECODER)
        case = f"{config.summary()}, {problem}, {recovered[1]} by {recovered.by}"
        for name in ("precision", "recall"):
            value = getattr(recovered, name)
            if has_target:
                rows.append(Row.more(case, name, value, TARGET, "asked", target=1.0))
            else:
                rows.append(Row.alone(case, name, value))
    rows.append(Row.alone(f"{config.summary()}, {problem}", "seconds of training", duration))
    return rows
