"""Which features are shared by all checkpoints, and which are specific? Three ways to say it, with chosen thresholds.

Small planted problems: plain ones, and ones in which half of the shared features have a fifth of their strength at all
checkpoints but one. The thresholds of every kind and way are those with the largest worst score (of precision and
recall, shared and specific, plain and weak; mean over seeds) on the seeds for choosing; the figures are means over the
seeds for reporting, and "other" is the figure with the published or default thresholds. The hyper-parameters of the
kinds were chosen on the seeds for choosing too. Features that the test leaves undecided count as missed.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from benchmarks.result import Result, Row
from crosstime.evolution.recovery import (
    DECODER,
    SCALED,
    SHARED,
    SPECIFIC,
    TESTED,
    MatchedFeatures,
    PresenceThresholds,
    match_planted,
)
from crosstime.training.kinds import KINDS
from crosstime.training.plant import plant, train_planted
from crosstime.training.trainer_config import TrainerConfig

CHOOSING, REPORTING = (10, 11, 12), (0, 1, 2)
"""Seeds on which thresholds are chosen, and seeds that are reported."""
PROBLEMS = {"plain": 0.0, "weak": 0.5}
"""Fraction of the shared features that are weak at all checkpoints but one."""
TARGETS = {"plain": 0.95, "weak": 0.9}
"""What is asked of precision and recall of one kind, with the test of presence."""
JUDGED = ("topk", "batchtopk")
"""Kinds that are judged by the targets."""
ACTIVE = {"k": 4, "k_start": 32, "dead_after": 5_000}
SETTINGS: dict[str, dict[str, Any]] = {
    "topk": ACTIVE,
    "batchtopk": ACTIVE | {"k": 3},
    "l1": {"l1": 0.3},
    "jumprelu": {"sparsity": 2.0, "threshold": 0.1, "bandwidth": 0.5},
}
"""Hyper-parameters of each kind."""
GRIDS: dict[str, tuple[PresenceThresholds, ...]] = {
    DECODER: tuple(PresenceThresholds(fraction) for fraction in (3 / 7, 0.3, 0.2, 0.15, 0.1, 0.05)),
    SCALED: tuple(
        PresenceThresholds(reconstruction=reconstruction, error=error)
        for reconstruction, error in itertools.product((0.5, 0.3, 0.2, 0.15, 0.1), (0.2, 0.15, 0.1, 0.05))
    ),
    TESTED: tuple(PresenceThresholds(share=share) for share in (0.1, 0.15, 0.05)),
}
"""Thresholds to choose among, the default ones first."""
VARIED = {DECODER: ("fraction",), SCALED: ("reconstruction", "error"), TESTED: ("share",)}
"""The thresholds that each way depends on."""
K = (2, 3, 4, 6, 8)
"""Numbers of active features of a BatchTopK crosscoder, on problems with four."""


Matched = dict[tuple[str, int], MatchedFeatures]
"""Trained and matched features by problem and seed."""
SCORES = tuple(itertools.product((SHARED, SPECIFIC), ("precision", "recall")))


def benchmark(quick: bool, device: torch.device) -> Result:
    """Train every kind on every problem, choose the thresholds, and measure precision and recall."""
    sizes: dict[str, Any] = {"n_features": 128, "d_model": 64, "density": 4.0}
    steps, batch_size, choosing, reporting, numbers = 1_500, 256, CHOOSING, REPORTING, K
    if quick:
        sizes = {"n_features": 32, "d_model": 32, "density": 4.0}
        steps, choosing, reporting, numbers = 60, (10,), (0,), (2,)

    # Every kind, with the thresholds chosen on some seeds and reported on others
    n_learned = 5 * sizes["n_features"] // 4
    rows: list[Row] = []
    for kind in SETTINGS:
        config = settings(kind, n_learned, steps)
        matched: Matched = {
            (problem, seed): train_and_match(config, sizes | {"weak": weak}, batch_size, seed)
            for problem, weak in PROBLEMS.items()
            for seed in (*choosing, *reporting)
        }
        rows += measure(config, matched, choosing, reporting)

    # The number of active features
    for k in numbers:
        config = settings("batchtopk", n_learned, steps, k=k)
        weak_problem = sizes | {"weak": PROBLEMS["weak"]}
        trained = {("weak", seed): train_and_match(config, weak_problem, batch_size, seed) for seed in choosing}
        rows += [
            Row.alone(f"{config.summary()}, weak, {name} by {TESTED}", f"{score}, seeds for choosing", mean)
            for (name, score), mean in means(table_of(trained, TESTED, GRIDS[TESTED][0])).items()
        ]

    details: dict[str, Any] = {"planted": sizes["n_features"], "checkpoints": 3, "d_model": sizes["d_model"]}
    details |= {"density": sizes["density"], "learned": n_learned, "steps": steps, "batch": batch_size}
    details |= {"seeds for choosing": _listed(choosing), "seeds for reporting": _listed(reporting)}
    return Result("sharing", device.type, details, tuple(rows))


def settings(kind: str, n_features: int, steps: int, **changed: Any) -> TrainerConfig:
    """Return the hyper-parameters of a kind, some of them changed."""
    options = SETTINGS[kind] | changed
    if "k" in options:
        options |= {"k_steps": 2 * steps // 3}
    return KINDS[kind](n_features=n_features, steps=steps, decoder_norm=0.3, lr=3e-3, **options)


def train_and_match(config: TrainerConfig, sizes: dict[str, Any], batch_size: int, seed: int) -> MatchedFeatures:
    """Train on a problem of a seed, and match what was learned to what was planted."""
    planted = plant(**sizes, seed=seed)
    return match_planted(planted, train_planted(planted, config, batch_size=batch_size, seed=seed))


def measure(config: TrainerConfig, matched: Matched, choosing: Sequence[int], reporting: Sequence[int]) -> list[Row]:
    """Choose the thresholds of each way on some seeds, and measure it on the others."""
    rows = []
    for by, grid in GRIDS.items():
        chosen = choose({key: value for key, value in matched.items() if key[1] in choosing}, by)
        shown = [f"{name} {getattr(chosen, name):.3g}" for name in VARIED[by]]
        for problem, target in TARGETS.items():
            reported = {key: matched[key] for key in itertools.product([problem], reporting)}
            table, default = table_of(reported, by, chosen), means(table_of(reported, by, grid[0]))
            case = f"{config.summary()}, {problem}, {{}} by {by} ({', '.join(shown)})"
            for (name, score), mean in means(table).items():
                rows.append(
                    Row.more(case.format(name), score, mean, default[name, score], "with the default thresholds")
                )
                if by == TESTED and config.kind in JUDGED:
                    lowest = min(table[table["class"] == name][score])
                    rows.append(Row.more(case.format(name), f"{score}, lowest", lowest, target, "asked", target=1.0))
            undecided = statistics.mean(table.undecided)
            if by == TESTED:
                rows.append(Row.alone(case.format("features"), "undecided, of those that fire", undecided))
    return rows


def choose(matched: Matched, by: str) -> PresenceThresholds:
    """Return the thresholds of a way with the largest worst score, the first of equal ones; mean over the seeds."""

    def worst(thresholds: PresenceThresholds) -> float:
        table = table_of(matched, by, thresholds)
        return statistics.mean(rows[["precision", "recall"]].min(axis=None) for _, rows in table.groupby("seed"))

    return max(GRIDS[by], key=worst)


def table_of(matched: Matched, by: str, thresholds: PresenceThresholds) -> pd.DataFrame:
    """Return the scores of one way on all problems and seeds; the precision of a class without a feature is 0."""
    tables = [
        features.scores(thresholds, ways=(by,)).assign(problem=problem, seed=seed)
        for (problem, seed), features in matched.items()
    ]
    return pd.concat(tables, ignore_index=True).fillna({"precision": 0.0})


def means(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the means of precision and recall of each class over the seeds."""
    return {(name, score): float(table[table["class"] == name][score].mean()) for name, score in SCORES}


def _listed(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds))
