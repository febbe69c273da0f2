"""Compare the strongest features with those under other prompts and other options of the estimator."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import ClassVar

import pandas as pd

from crosstime.effects.stability import effect_stability
from crosstime.effects.stability_options import REPEATED
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import PROMPT_TOKENS, Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.attribute import MEAN_NODES
from crosstime.runs.stages.stage import Stage
from interventions import Bootstrap

STABILITY = "stability"
"""Name of the table."""
VARIANTS = {"metric": 3, "baseline": 3, "estimator": 3, "dtype": 1}
"""Most variants of a comparison for which effects are computed again."""


class StabilityOfEffects(Stage):
    """Writes stability.csv; part of recipes that ask for it."""

    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability of the effects"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The effects, and what they are compared over."""
        return [ledger.key("attribute"), asdict(inputs.recipe.stability)]

    def files(self, recipe: Recipe) -> list[str]:
        """The table."""
        return [f"{STABILITY}.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """The effects again, on some prompts, for each variant; and products of resamples and effects."""
        table, c = sizes.recipe.stability, sizes.n_checkpoints
        n_variants = sum(VARIANTS[name] for name in table.comparisons if name in REPEATED)
        tokens = sum(min(n, table.prompts) for n in sizes.prompts) * PROMPT_TOKENS
        nodes = 1 if sizes.recipe.effects.method == "atp" else sizes.recipe.effects.steps or MEAN_NODES
        above = sizes.blocks_above
        passes = sizes.prompt_pass.blocks(above, nodes * tokens, gradients=True)
        passes += sizes.prompt_pass.blocks(above, 2 * tokens) + sizes.decode(tokens)
        # Features that fire on a prompt are far fewer than all; a token has as many as are active
        columns = min(sizes.n_features, sizes.n_active * PROMPT_TOKENS * 4)
        bootstrap = (n_variants + 2) * c * sizes.bootstrap(sum(sizes.prompts), columns, table.resamples)
        return sizes.cost(
            self.name,
            f"{len(table.comparisons)} comparisons, {n_variants} variants",
            n_variants * c * passes + bootstrap,
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(sizes.prompt_tokens) + 8 * max(sizes.prompts) * columns,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.effect_stability`; each task is a part."""
        tables = [
            parts.table(f"{task}.csv", partial(_stability_of, inputs, folder, task))
            for task in range(len(inputs.tasks))
        ]
        folder.write_table(STABILITY, pd.concat(tables, ignore_index=True))


def _stability_of(inputs: Inputs, folder: RunFolder, task: int) -> pd.DataFrame:
    """The rows of one task."""
    recipe = inputs.recipe
    return effect_stability(
        inputs.compared,
        folder.crosscoder,
        folder.attribution(task, inputs.decomposed(task, folder.crosscoder)),
        recipe.effects,
        stability=recipe.stability,
        bootstrap=Bootstrap(recipe.stability.resamples, recipe.seed),
        compute=inputs.compute,
    )
