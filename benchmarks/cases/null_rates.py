"""Planted problems: do null models state the rates at which the same pipeline makes false claims?

*Intervals.* On problems whose features are all planted at every checkpoint (half of them for the frozen kinds, under
which no claim is false), crosscoders are trained under five kinds of null model; random weights need a language
model. The trainings are divided into groups of 1, 2, 3 and 5. The interval that `ct.null_models` would state from a
group is to hold the rate of all other trainings; coverage is over groups and claims, and for 3 seeds also for each
claim that is false by construction.

*Rates.* Half of the features are planted at one checkpoint each. A claim about a trained feature is false where it is
not true of the planted feature whose direction is nearest, or where none is near. Claims are classes by RelDec and
lives by decoder norms and by the test of presence, here of all features that fire. The null models are the default
ones of `crosstime null`, of three seeds each: the last checkpoint repeated with noise of the size of the run's error
term, and permuted tokens; the larger number counts, as in the report. The stated false-discovery rate supposes that
no claim is true, which makes it too large, and that a dictionary errs where checkpoints differ as often as where they
do not, which makes it too small in a crowded space, where features of different checkpoints are mistaken for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.result import Result, Row
from crosstime.activations.null_batches import NullBatches
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.effects.relie import classify, relative
from crosstime.evolution.claims import DECODER, RELDEC, decoder_claims, presence_claims
from crosstime.evolution.false_discoveries import false_discoveries
from crosstime.evolution.life_cycles import LIFE_CYCLES, life_cycle_numbers
from crosstime.evolution.null_names import DECODERS, ENCODER, NOISE, PERMUTED, SAME, is_false_under
from crosstime.evolution.presence import present
from crosstime.evolution.presence_lives import with_lives
from crosstime.evolution.presence_test import presence_test
from crosstime.evolution.rate_intervals import rate_intervals
from crosstime.report.columns import PRESENCE_TEST
from crosstime.training.l1_config import L1Config
from crosstime.training.plant import PlantedProblem, plant
from crosstime.training.trainer_of import trainer_of

CROWDED, ROOMY = "3 features a dimension", "1.5 features a dimension"
CONFIGS = {
    CROWDED: L1Config(n_features=96, steps=150, lr=1e-2, l1=0.3),
    ROOMY: L1Config(n_features=60, steps=600, lr=1e-2, l1=0.3),
}
"""Hyper-parameters of the problems with known lives; those of intervals are trained like the crowded ones."""
D_MODEL = {CROWDED: 16, ROOMY: 32}
DENSITY = {CROWDED: 3.0, ROOMY: 2.0}
BATCH = 128
DEVIATION = 0.5
"""Standard deviation of the noise, in each of 16 dimensions of activations whose features have a length of 1 to 2."""
KINDS = (SAME, NOISE, PERMUTED, ENCODER, DECODERS)
SEEDS = (1, 2, 3, 5)
"""Numbers of trainings of a null model."""
SHOWN = 3
"""Number of trainings for which the coverage of each claim is shown."""
NEAR = 0.5
"""Cosine from which a feature counts as that of a planted direction."""
LEVEL = 0.95


@dataclass(frozen=True)
class Dictionary:
    """A trained crosscoder, its features that fire, its error at the last checkpoint (root mean square), and lives.

    The lives of the features are those by the test of presence on held-out tokens.
    """

    crosscoder: CrossCoder
    alive: Int[Tensor, " K"]
    error: float
    lives: pd.DataFrame

    @property
    def norms(self) -> Float[Tensor, "K C"]:
        """Decoder norms of the features that fire."""
        return self.crosscoder.decoder_norms().T[self.alive].detach()

    def claims(self) -> pd.DataFrame:
        """Classes and lives of the features that fire, counted."""
        by_decoder = decoder_claims(self.norms, self.crosscoder.origin.revisions)
        return pd.concat([by_decoder, presence_claims(self.lives)], ignore_index=True)


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure the coverage of the intervals, and stated rates against true ones."""
    problems, trainings, known = (1, 6, 1) if quick else (3, 30, 10)
    rows = []
    for kind in KINDS:
        rows += coverage_rows(kind, [null_claims(problem, kind, trainings) for problem in range(problems)])
    for setting in CONFIGS:
        rows += rate_rows(setting, range(known))
    config = CONFIGS[CROWDED]
    sizes = {"planted": 64, "d_model": 16, "checkpoints": 3, "features": config.n_features, "steps": config.steps}
    sizes |= {"batch_size": BATCH, "noise": DEVIATION, "problems": problems, "trainings of each": trainings}
    return Result("null_rates", device.type, sizes | {"problems with lives": known}, tuple(rows))


def train(
    planted: PlantedProblem, kind: str, *, seed: int, setting: str = CROWDED, noise: float = DEVIATION
) -> Dictionary:
    """Train a crosscoder on the activations of a planted problem under a kind of null model.

    Args:
        planted: the problem.
        kind: a kind of null model; the same-checkpoint kinds are those of a problem whose checkpoints are equal.
        seed: of the training and the tokens.
        setting: of `CONFIGS`.
        noise: standard deviation of the noise, if the kind has any.
    """
    # The sample of the scales, and the activations before the null model changes them
    generator = torch.Generator().manual_seed(seed)
    sample = planted.activations(planted.codes(1024, generator), generator)
    scales = planted.d_model**0.5 / sample.norm(dim=-1).mean(0)
    deviations = (noise,) * planted.n_checkpoints if kind == NOISE else ()
    null = NullBatches(permuted=kind == PERMUTED, noise=deviations, seed=seed)

    # Train
    frozen = {ENCODER: "encoder", DECODERS: "decoder"}.get(kind)
    config = replace(CONFIGS[setting], seed=seed, frozen=frozen)
    trainer = trainer_of(config, config.crosscoder(planted.origin, scales))
    for step in range(config.steps):
        batch = planted.activations(planted.codes(BATCH, generator), generator)
        trainer.update(step, null(batch, step * BATCH))

    # The features that fire on other tokens of the null model, and where they are present on these
    crosscoder = trainer.crosscoder.eval()
    x = planted.activations(planted.codes(4096, generator), generator)
    parts = crosscoder.decompose(null.held_out(x.transpose(0, 1)))
    error = float(parts[-1].error.detach().double().square().mean().sqrt())
    alive = torch.unique(parts[0].codes.feature)
    table = presence_test(crosscoder, parts, features=alive.tolist())
    lives = with_lives(table, planted.origin.revisions).drop_duplicates("feature")
    return Dictionary(crosscoder, alive, error, lives)


def null_claims(problem: int, kind: str, trainings: int) -> list[pd.DataFrame]:
    """Return the claims of some trainings under a kind of null model.

    Every feature is at every checkpoint, or half of them where the encoder or the decoder is frozen, which makes no
    claim false.
    """
    shared = 0.5 if kind in (ENCODER, DECODERS) else 1.0
    planted = plant(64, 3, 16, shared=shared, density=3.0, noise=0.0, seed=problem)
    return [train(planted, kind, seed=1000 * problem + training).claims() for training in range(trainings)]


def coverage_rows(kind: str, problems: Sequence[list[pd.DataFrame]]) -> list[Row]:
    """Return how often the interval of S trainings holds the rate of the others, for every S."""
    tables = [table for tables in problems for table in coverage(kind, tables)]
    groups = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["seeds"])
    rows = []
    for seeds, group in groups.groupby("seeds"):
        case = f"{kind}, {seeds} seed{'s' if seeds != 1 else ''}"
        rows.append(Row.more(case, "coverage, all claims", float(group.held.mean()), LEVEL, "level"))
        rows.append(Row.alone(case, "mean width", float(group.width.mean())))
    for (source, claim), group in groups[(groups.seeds == SHOWN) & groups.false].groupby(["source", "claim"]):
        case = f"{kind}, {SHOWN} seeds, {source}: {claim}, true rate {group.truth.mean():.3f}"
        rows.append(Row.more(case, "coverage", float(group.held.mean()), LEVEL, "level"))
    return rows


def coverage(kind: str, tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Divide the trainings of one problem into groups, and compare the interval of each with the rate of the others.

    Returns:
        For each source and number of seeds: seeds, source, claim, false, truth, held, and width of the interval; claims
        that no training makes are left out, apart from those that are false by construction.
    """
    compared = []
    for source in (RELDEC, DECODER, PRESENCE_TEST):
        parts = [table[table.source == source].set_index("claim") for table in tables]
        if any(part.empty for part in parts):
            continue
        claims = list(dict.fromkeys(claim for part in parts for claim in part.index))
        counts = np.array([part["count"].reindex(claims, fill_value=0) for part in parts], dtype=float)
        sizes = np.array([part.n.iloc[0] for part in parts], dtype=float)
        false = np.array([is_false_under(kind, claim) for claim in claims])
        shown = false | (counts.sum(0) > 0)
        for seeds in (seeds for seeds in SEEDS if 2 * seeds <= len(tables)):
            for first in range(0, len(tables) - seeds + 1, seeds):
                group = np.arange(len(tables)) // seeds == first // seeds
                truth = counts[~group].sum(0) / sizes[~group].sum()
                _, low, high = rate_intervals(counts[group], sizes[group], level=LEVEL).T
                table = pd.DataFrame({"claim": claims, "false": false, "truth": truth, "width": high - low})
                table = table.assign(seeds=seeds, source=source, held=(low <= truth) & (truth <= high))
                compared.append(table[shown])
    return compared


def rate_rows(setting: str, seeds: Sequence[int]) -> list[Row]:
    """Return stated and true false-discovery rates of classes and lives of features at one checkpoint."""
    rows = []
    comparisons = pd.concat([stated_and_true(setting, seed) for seed in seeds], ignore_index=True)
    for source, table in comparisons.groupby("source", sort=False):
        case = f"{setting}, {len(seeds)} problem{'s' if len(seeds) != 1 else ''} with known lives, {source}"
        weights = table["count"] / table["count"].sum()
        rows.append(Row.alone(case, "claims", float(table["count"].sum())))
        rows.append(Row.alone(case, "true false-discovery rate", float((table.true * weights).sum())))
        rows.append(Row.alone(case, "stated false-discovery rate", float((table.fdr * weights).sum())))
        rows.append(Row.alone(case, "upper bound of it", float((table.fdr_high * weights).sum())))
        bounded = float((table.true <= table.fdr_high).mean())
        rows.append(Row.more(case, "true rates that are at most their upper bound", bounded, LEVEL, "level"))
    return rows


def stated_and_true(setting: str, seed: int, *, n_seeds: int = 3) -> pd.DataFrame:
    """Return stated and true false-discovery rates of the claims of one problem that are false under a null model.

    Args:
        setting: of `CONFIGS`.
        seed: of the problem and the trainings.
        n_seeds: trainings of each null model.

    Returns:
        source, claim, count, fdr with its bounds, and true: the share of the features with the claim of whose planted
        feature it is not true.
    """
    # The run, and what null models state about it
    planted = plant(48, 3, D_MODEL[setting], shared=0.5, density=DENSITY[setting], noise=0.0, seed=seed)
    repeated = PlantedProblem(planted.directions[:, 2:].repeat(1, 3, 1), planted.density, planted.noise)
    first = 5000 + 10 * seed
    run = train(planted, SAME, seed=first, setting=setting)
    tables = []
    for kind, problem in ((NOISE, repeated), (PERMUTED, planted)):
        nulls = [
            train(problem, kind, seed=first + training, setting=setting, noise=run.error).claims()
            for training in range(n_seeds)
        ]
        table = false_discoveries(run.claims(), nulls, kind, level=LEVEL)
        tables.append(table[table.false & (table["count"] > 0)])

    # The null model that expects most
    table = pd.concat(tables).sort_values("expected", kind="stable").drop_duplicates(["source", "claim"], keep="last")

    # Compare each feature's claims with those of its planted feature
    revisions = planted.origin.revisions
    nearest, near = nearest_planted(run, planted)
    planted_norms = planted.directions.norm(dim=-1)[nearest]
    true = {}
    for source, labels, truth in (
        (RELDEC, classify(relative(run.norms), revisions), classify(relative(planted_norms), revisions)),
        (DECODER, lives(run.norms), lives(planted_norms)),
        (PRESENCE_TEST, run.lives.life_cycle.tolist(), lives(planted_norms)),
    ):
        for claim in set(labels):
            right = [ok and truth[i] == claim for i, ok in enumerate(near.tolist()) if labels[i] == claim]
            true[source, claim] = 1 - mean(right)
    keys = zip(table.source, table.claim, strict=True)
    return table[["source", "claim", "count", "fdr", "fdr_low", "fdr_high"]].assign(true=[true[key] for key in keys])


def nearest_planted(run: Dictionary, planted: PlantedProblem) -> tuple[Int[Tensor, " K"], Bool[Tensor, " K"]]:
    """Return the planted feature whose decoder is nearest in cosine, over all checkpoints, and whether it is near."""
    ours = run.crosscoder.W_dec.detach()[run.alive].flatten(1)
    theirs = torch.nn.functional.normalize(planted.directions.flatten(1), dim=-1)
    largest = (torch.nn.functional.normalize(ours, dim=-1) @ theirs.T).max(1)
    return largest.indices, largest.values >= NEAR


def lives(norms: Float[Tensor, "K C"]) -> list[str]:
    """Return the life cycle of each feature by its decoder norms."""
    return [LIFE_CYCLES[number] for number in life_cycle_numbers(present(norms)).tolist()]
