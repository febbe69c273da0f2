"""Compute the indirect effect of every feature on every task, at every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from crosstime.effects.attribute import attribute
from crosstime.effects.attribution import Attribution
from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.effects.relie import classify
from crosstime.errors import NothingSelectedError
from crosstime.machine.tensors import write_tensors
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.runs.work_shares import BLOCK, blocks, concatenate_effects, shard

MEAN_NODES = 12
"""Quadrature nodes of a prompt, on average, if their number follows from completeness."""


class Attribute(Stage):
    """Writes effects.csv, error_term.csv, completeness.csv, effects.safetensors and attribution/."""

    name: ClassVar[str] = "attribute"
    title: ClassVar[str] = "indirect effects"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The crosscoder, the tasks, and how effects are estimated."""
        effects = inputs.recipe.effects.to_dict()
        return {"crosscoder": ledger.key("train"), "effects": effects, **inputs.task_identity()}

    def files(self, recipe: Recipe) -> list[str]:
        """Tables of the selected features, and the effects of all features."""
        effects = [RunFolder.effects_file(task) for task in range(len(recipe.tasks))]
        return ["effects.csv", "error_term.csv", "completeness.csv", "effects.safetensors", *effects]

    def cost(self, sizes: Sizes) -> Cost:
        """A forward and a backward pass from the site upwards for each quadrature node."""
        effects, c, n_tasks, n_prompts = (
            sizes.recipe.effects,
            sizes.n_checkpoints,
            len(sizes.prompts),
            sum(sizes.prompts),
        )
        nodes = 1 if effects.method == "atp" else effects.steps or MEAN_NODES
        tokens, forward, above = sizes.prompt_tokens, sizes.prompt_pass, sizes.blocks_above

        # Read and decompose the prompts, run both ends of the path and its nodes, and resample the prompts
        passes = forward.blocks(sizes.layer + 1, tokens) + sizes.decode(tokens) + forward.blocks(above, 2 * tokens)
        passes += forward.blocks(above, nodes * tokens, gradients=True)
        columns = c * (sizes.n_selected + 1)
        bootstrap = 2 * n_tasks * sizes.bootstrap(n_prompts / n_tasks, columns, effects.resamples)

        # Effects of all features are on disk twice: as parts, and joined
        disk_bytes = 16 * tokens * sizes.n_active * c + 4 * n_tasks * c * sizes.n_features
        return sizes.cost(
            self.name,
            f"{n_prompts:,} prompts, {nodes} nodes, {c} checkpoints",
            c * passes + sizes.encode(tokens) + bootstrap,
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(tokens) + 24 * effects.resamples * columns,
            disk=2 * disk_bytes,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.attribute`; each block of prompts is a part."""
        tasks = range(len(inputs.tasks))

        # Compute the effects, each process those on its own blocks of prompts
        task_blocks = [(task, rows) for task in tasks for rows in _blocks(inputs, task)]
        for task, rows in shard(task_blocks, parts.processes):
            _effects_on_block(inputs, folder, parts, task, rows)
        parts.processes.barrier()
        if not parts.processes.first:
            return

        # Join the blocks of each task
        for task in tasks:
            files = [_effects_on_block(inputs, folder, parts, task, rows) for rows in _blocks(inputs, task)]
            effects = concatenate_effects([read_effects(file) for file in files])
            write_effects(folder.path / folder.effects_file(task), effects)

        # Select features, and write the tables
        attributions = [folder.attribution(task, inputs.decomposed(task, folder.crosscoder)) for task in tasks]
        _write_tables(inputs, folder, attributions)


def _blocks(inputs: Inputs, task: int) -> list[range]:
    """The blocks of a task's prompts; a single one, if the baseline is made of all prompts."""
    n_prompts = len(inputs.tokenized[task])
    whole = inputs.recipe.effects.baseline in ("mean", "resample")
    return blocks(n_prompts, n_prompts if whole else BLOCK)


def _effects_on_block(inputs: Inputs, folder: RunFolder, parts: Parts, task: int, rows: range) -> Path:
    """The part with the effects on a block of a task's prompts."""
    recipe, prompts = inputs.recipe, inputs.tokenized[task]

    def write(path: Path) -> None:
        whole = len(rows) == len(prompts)
        attribution = attribute(
            inputs.compared,
            folder.crosscoder,
            inputs.decomposed(task, folder.crosscoder) if whole else prompts.select(rows),
            recipe.effects,
            seed=recipe.seed,
            compute=inputs.compute,
        )
        write_effects(path, attribution.effects)

    return parts.file(f"{task}-{rows.start}.safetensors", write)


def _write_tables(inputs: Inputs, folder: RunFolder, attributions: Sequence[Attribution]) -> None:
    """Write the tables of the selected features, and the effects of all features as tensors.

    Features are selected on the first half of the prompts of each task, and their effects in the table are those on the
    second.
    """
    recipe = inputs.recipe
    halves = [task.selection_and_test(halves=recipe.effects.halves, seed=recipe.seed) for task in attributions]
    tops = [selection.top(recipe.effects.top) for selection, _ in halves]
    selected = list(dict.fromkeys(feature for top in tops for feature in top))
    if not selected:
        raise NothingSelectedError(
            "no feature has an effect on any task: the crosscoder learned nothing that fires there; train it "
            "for more steps, or with a smaller l1"
        )

    # Effects of the selected features and of the error term
    bootstrap = recipe.effects.bootstrap(recipe.seed)
    undefined = float("nan") if recipe.effects.undefined is None else recipe.effects.undefined
    effects = [
        _with_selection(held_out.table(selected, bootstrap=bootstrap, undefined=undefined), selection, undefined)
        for selection, held_out in halves
    ]
    error_terms = [task.error_table(bootstrap=bootstrap) for task in attributions]
    folder.write_table("effects", pd.concat(effects, ignore_index=True))
    folder.write_table("error_term", pd.concat(error_terms, ignore_index=True))

    # How far the effects are from adding up to the change of the metric
    completeness = [
        {"task": task.task, "revision": revision, "completeness_error": error}
        for task in attributions
        for revision, error in task.completeness().items()
    ]
    folder.write_table("completeness", pd.DataFrame(completeness))

    # Effects of all features
    tensors = {task.task: task.ie().float() for task in attributions}
    write_tensors(folder.path / "effects.safetensors", tensors, {"rows": "checkpoints", "columns": "features"})


def _with_selection(table: pd.DataFrame, selection: Attribution, undefined: float) -> pd.DataFrame:
    """A table of effects, with the effects and classes on the prompts by which features were selected."""
    features = table.feature.drop_duplicates().tolist()
    relie = selection.relie(undefined=undefined)[features]
    labels = dict(zip(features, classify(relie, selection.revisions), strict=True))
    # Rows are feature by feature, and of each feature checkpoint by checkpoint
    ie = selection.ie().T[features].flatten().numpy()
    return table.assign(selection_ie=ie, selection_class=table.feature.map(labels))
