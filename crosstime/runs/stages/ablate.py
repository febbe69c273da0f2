"""Ablate the selected features, one at a time and together, and measure what the model loses.

Features are selected, classed and ranked by their effects on one half of the prompts, and ablated on the other.
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from crosstime.effects.ablate import ablate
from crosstime.effects.faithfulness import ranking, sufficiency_curves
from crosstime.runs.effect_halves import effect_halves
from crosstime.runs.findings import ablation_groups
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import PROMPT_TOKENS, Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from interventions import Bootstrap
from interventions.circuit import SIZES

FIRING = 0.4
"""Share of the prompts on which a selected feature fires."""
SETS = 5
"""Sets of features that are ablated on a task, controls included."""
RANKINGS = 6
"""Rankings of features, of which the first n are restored and ablated: one by effect, the others random."""
MEAN_BYTES = 20
"""Bytes of a feature's mean at one token."""
RESAMPLES = 2_000
"""Resamples of the bootstrap over ablated prompts."""


class Ablate(Stage):
    """Writes ablation.csv and faithfulness.csv."""

    name: ClassVar[str] = "ablate"
    title: ClassVar[str] = "ablations"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The effects, by which features are selected."""
        return ledger.key("attribute")

    def files(self, recipe: Recipe) -> list[str]:
        """The tables."""
        return ["ablation.csv", "faithfulness.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Passes from the site upwards: of single features, of sets, and of the first n of each ranking."""
        c, n_tasks, share = sizes.n_checkpoints, len(sizes.prompts), 0.5 if sizes.recipe.effects.halves else 1
        n_prompts = round(share * sum(sizes.prompts))
        passes = sizes.n_selected * FIRING + SETS + RANKINGS * 2 * (len(SIZES) + 1)
        work = c * sizes.prompt_pass.blocks(sizes.blocks_above, share * passes * sizes.prompt_tokens)
        work += 3 * c * n_tasks * sizes.bootstrap(n_prompts / n_tasks, 4 * len(SIZES), RESAMPLES)
        # All features that are not restored are set to their means.
        means = max(sizes.prompts) * PROMPT_TOKENS * sizes.n_features
        return sizes.cost(
            self.name,
            f"about {sizes.n_selected:,} features, {n_prompts:,} prompts",
            work,
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(sizes.prompt_tokens) + MEAN_BYTES * means,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.ablate`, `crosstime.runs.findings` and `crosstime.faithfulness`; a task has two parts."""
        effects, tasks = folder.table("effects"), range(len(inputs.tasks))
        ablations = [_ablations(inputs, folder, parts, effects, task) for task in tasks]
        curves = [_sufficiency(inputs, folder, parts, task) for task in tasks]
        folder.write_table("ablation", pd.concat(ablations, ignore_index=True))
        folder.write_table("faithfulness", pd.concat(curves, ignore_index=True))


def _ablations(inputs: Inputs, folder: RunFolder, parts: Parts, effects: pd.DataFrame, task: int) -> pd.DataFrame:
    """What ablating each group of features does to a task."""

    def compute() -> pd.DataFrame:
        seed, decomposed = inputs.recipe.seed, effect_halves(inputs, folder, task)[1].decomposed
        groups = ablation_groups(effects, decomposed, seed=seed)
        table = ablate(
            inputs.compared,
            folder.crosscoder,
            decomposed,
            {name: group.features for name, group in groups.items()},
            bootstrap=Bootstrap(RESAMPLES, seed),
            compute=inputs.compute,
        )
        table.insert(2, "kind", table.features.map({name: group.kind for name, group in groups.items()}))
        return table

    return parts.table(f"{task}.csv", compute)


def _sufficiency(inputs: Inputs, folder: RunFolder, parts: Parts, task: int) -> pd.DataFrame:
    """How much of a task's metric the first n features restore, and how much is left without them."""

    def compute() -> pd.DataFrame:
        selection, held_out = effect_halves(inputs, folder, task)
        return sufficiency_curves(
            inputs.compared,
            folder.crosscoder,
            held_out.decomposed,
            ranking(selection),
            bootstrap=Bootstrap(RESAMPLES, inputs.recipe.seed),
            compute=inputs.compute,
        )

    return parts.table(f"joint-{task}.csv", compute)
