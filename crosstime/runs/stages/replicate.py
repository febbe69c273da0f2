"""Find out which features and claims of the run other seeds have as well."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from crosstime.evolution.replicated_claims import replicated_claims
from crosstime.evolution.replication import pairwise_mcc
from crosstime.evolution.seed_agreement import seed_agreement
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.repeat import repeat
from crosstime.runs.seed_inputs import SeedInputs
from crosstime.runs.stages.attribute import Attribute
from crosstime.runs.stages.evolve import FOLDER, Evolve
from crosstime.runs.stages.stage import Stage
from crosstime.runs.stages.train import Train
from interventions import Bootstrap

REPLICATION, AGREEMENT = "replication", "seeds"
"""Names of the tables."""
FORMAT = 2
"""Raised where the tables get other columns, so that a run of an earlier version makes them again."""
REPEATED: tuple[Stage, ...] = (Train(), Attribute(), Evolve())
"""The stages that run for every other seed; its crosscoder is there already."""


class Replicate(Stage):
    """Writes replication.csv and seeds.csv, and seeds/, a folder for each other seed; part of recipes with seeds."""

    name: ClassVar[str] = "replicate"
    title: ClassVar[str] = "other seeds"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The crosscoders of all seeds, the effects, and the life cycles."""
        return [*(ledger.key(name) for name in ("train", "attribute", "evolve")), FORMAT]

    def files(self, recipe: Recipe) -> list[str]:
        """The tables."""
        return [f"{REPLICATION}.csv", f"{AGREEMENT}.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Effects and life cycles, for every other seed."""
        costs = [stage.cost(sizes) for stage in REPEATED[1:]]
        n_seeds = len(sizes.recipe.crosscoder.other_seeds)
        return Cost(
            self.name,
            f"{n_seeds} other seed{'s' if n_seeds > 1 else ''}",
            n_seeds * (costs[0].work + costs[1].work),
            max(cost.memory for cost in costs),
            max(cost.host for cost in costs),
            n_seeds * (sum(cost.disk for cost in costs) + 8 * sizes.cdf),
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """Attribute and evolve with the crosscoder of each other seed, and compare it with that of the run."""
        recipe, processes = inputs.recipe, parts.processes
        folders, selected = [folder], [True]
        for seed in recipe.crosscoder.other_seeds:
            seed_inputs = SeedInputs(inputs, seed, folder)
            selected.append(repeat(seed_inputs, folder, REPEATED, processes, f"seed {seed}", seed=seed))
            folders.append(seed_inputs.folder)
        if not processes.first:
            return

        def tables(name: str) -> list[pd.DataFrame]:
            """A table of every seed; one that selects no feature makes no claim."""
            none = folder.table(name).iloc[:0]
            return [other.table(name) if any_ else none for other, any_ in zip(folders, selected, strict=True)]

        # Which claims about the selected features come back
        crosscoders = [other.crosscoder for other in folders]
        effects, lives = tables("effects"), tables(f"{FOLDER}/life_cycles")
        presence = tables(f"{FOLDER}/presence") if recipe.evolve.text else []
        folder.write_table(REPLICATION, replicated_claims(crosscoders, effects, lives, presence))

        # How far whole dictionaries agree
        agreement = seed_agreement(crosscoders, bootstrap=Bootstrap(recipe.evolve.resamples, recipe.seed))
        agreement = agreement.merge(pairwise_mcc(crosscoders), on=["first", "second"])
        seeds = dict(enumerate(recipe.crosscoder.seeds))
        named = {column: agreement[column].map(seeds) for column in ("first", "second")}
        folder.write_table(AGREEMENT, agreement.assign(**named))
