"""Does the flag of absorption find planted parents that a child absorbs, and only these?

Planted problems with a hierarchy: half of the specific features are pairs of a parent at the first checkpoint and a
child at the others, which fires on half of the parent's tokens; half of the other features are correlated in pairs. The
two thresholds are those with the largest worst score on the seeds for choosing; the figures are means over the seeds
for reporting, and "other" is the figure if nested firing is read off the parent's gate instead of the activation.

The last rows are precision and recall of shared and specific features by the test of presence on these problems, whose
features are not independent, with its default threshold.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from benchmarks.cases.sharing import CHOOSING, REPORTING, settings
from benchmarks.result import Result, Row
from crosstime.evolution.absorption import COSINE, OVERLAP, absorption
from crosstime.evolution.recovery import TESTED, match_planted
from crosstime.training.plant import Dependence, plant, train_planted
from crosstime.training.trainer_config import TrainerConfig

KINDS = ("topk", "batchtopk")
GRID = ((OVERLAP, COSINE), *itertools.product((0.5, 0.6, 0.7, 0.8, 0.9), (0.3, 0.4, 0.5, 0.6)))
"""Overlaps and cosines to choose among, the default ones first."""


def benchmark(quick: bool, device: torch.device) -> Result:
    """Train on every problem, choose the thresholds over both kinds, and measure precision and recall of the flag."""
    sizes: dict[str, Any] = {"n_features": 128, "d_model": 64, "density": 4.0}
    steps, choosing, reporting = 1_500, CHOOSING, REPORTING
    if quick:
        sizes, steps, choosing, reporting = {"n_features": 32, "d_model": 32, "density": 4.0}, 60, (10,), (0,)

    # One table for each training
    configs = {kind: settings(kind, 5 * sizes["n_features"] // 4, steps) for kind in KINDS}
    tables = {
        (kind, seed): flags(config, sizes, seed) for kind, config in configs.items() for seed in (*choosing, *reporting)
    }

    # The thresholds, and what they give on the other seeds
    overlap, cosine = choose([table for (_, seed), table in tables.items() if seed in choosing])
    rows: list[Row] = []
    for kind, config in configs.items():
        reported = [tables[kind, seed] for seed in reporting]
        scores = [score(table, overlap, cosine) for table in reported]
        gates = [score(table, overlap, cosine, column="fires") for table in reported]
        case = f"{config.summary()} (overlap {overlap:.3g}, cosine {cosine:.3g})"
        for place, name in enumerate(("precision", "recall")):
            mean, of_gates = (statistics.mean(values[place] for values in series) for series in (scores, gates))
            rows.append(Row.more(case, name, mean, of_gates, "by the parent's gate"))
            lowest = min(values[place] for values in scores)
            rows.append(Row.alone(case, f"{name}, lowest", lowest))
        rows.append(Row.alone(case, "features that end", statistics.mean(len(table) for table in reported)))
        rows.append(Row.alone(case, "planted parents", statistics.mean(table.attrs["parents"] for table in reported)))
        fires = pd.concat([table[table.is_parent] for table in reported]).fires.mean()
        rows.append(Row.alone(case, "share of a child's tokens on which its parent fires", float(fires)))
        rows += presence_rows(f"{config.summary()}, {TESTED}", [table.attrs["presence"] for table in reported])
    details: dict[str, Any] = {"planted": sizes["n_features"], "checkpoints": 3, "d_model": sizes["d_model"]}
    details |= {"density": sizes["density"], "steps": steps}
    details |= {
        "seeds for choosing": " ".join(map(str, choosing)),
        "seeds for reporting": " ".join(map(str, reporting)),
    }
    return Result("absorption", device.type, details, tuple(rows))


def flags(config: TrainerConfig, sizes: dict[str, Any], seed: int) -> pd.DataFrame:
    """Return `absorption` of a training, with the planted partner of each parent and whether it is a parent there."""
    planted = plant(**sizes, dependence=Dependence(hierarchy=0.5, correlated=0.5), seed=seed)
    crosscoder = train_planted(planted, config, batch_size=256, seed=seed)
    matched = match_planted(planted, crosscoder)
    assert planted.parents is not None
    parents = set(planted.parents[planted.parents >= 0].tolist())
    table = absorption(crosscoder, matched.decompositions)
    partner = [int(matched.partner[feature]) for feature in table.parent]
    table = table.assign(partner=partner, is_parent=[feature in parents for feature in partner])
    table.attrs["parents"] = len(parents)
    table.attrs["presence"] = matched.scores(ways=(TESTED,)).to_dict("list")
    return table


def presence_rows(case: str, scores: Sequence[dict[str, list[Any]]]) -> list[Row]:
    """Return precision and recall of each class by the test of presence: means over trainings, and the lowest."""
    table = pd.concat([pd.DataFrame(columns) for columns in scores], ignore_index=True)
    rows = []
    for name, of_class in table.groupby("class", sort=False):
        for score_name in ("precision", "recall"):
            values = of_class[score_name].astype(float)
            rows.append(Row.alone(f"{case}, {name}", score_name, float(values.mean())))
            rows.append(Row.alone(f"{case}, {name}", f"{score_name}, lowest", float(values.min())))
    return rows


def score(table: pd.DataFrame, overlap: float, cosine: float, *, column: str = "overlap") -> tuple[float, float]:
    """Return precision and recall of the flag with some thresholds; the precision without a flag is 0."""
    flagged = table[(table[column] >= overlap) & (table.cosine >= cosine)]
    hits = flagged[flagged.is_parent].partner.nunique()
    return hits / len(flagged) if len(flagged) else 0.0, hits / table.attrs["parents"]


def choose(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Return the thresholds with the largest worst score, mean over trainings; the first of equal ones."""
    return max(GRID, key=lambda thresholds: statistics.mean(min(score(table, *thresholds)) for table in tables))
