"""Measure the accuracy of every checkpoint and, if the recipe leaves it open, choose which ones to compare."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import pandas as pd

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.model_size import KNOWN
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.runs.work_shares import shard
from crosstime.suites.accuracy import accuracy
from crosstime.suites.select import select
from crosstime.suites.similarity import similarity
from crosstime.suites.text_sample import TextSample


class Select(Stage):
    """Writes accuracy.csv; also selection.json and similarity.csv, if checkpoints are to be chosen."""

    name: ClassVar[str] = "select"
    title: ClassVar[str] = "accuracy of every checkpoint"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Checkpoints and tasks; for a choice also site and text."""
        recipe = inputs.recipe
        dependencies: dict[str, object] = {
            "suite": inputs.suite.fingerprint,
            "sentences": recipe.select.sentences,
            **inputs.task_identity(),
        }
        if recipe.compare.revisions is None:
            dependencies |= {
                "select": asdict(recipe.select),
                "site": recipe.compare.site,
                "text": inputs.corpus_identity(),
            }
        return dependencies

    def files(self, recipe: Recipe) -> list[str]:
        """The tables, and the choice."""
        choice = ["similarity.csv", RunFolder.SELECTION] if recipe.compare.revisions is None else []
        return ["accuracy.csv", *choice]

    def cost(self, sizes: Sizes) -> Cost:
        """One pass of all prompts at every checkpoint."""
        n_checkpoints, n_tasks, n_prompts = sizes.n_measured, len(sizes.prompts), sum(sizes.prompts)
        work = sizes.prompt_pass.blocks(sizes.model.n_layers, n_checkpoints * sizes.prompt_tokens)
        work += n_tasks * sizes.bootstrap(n_prompts / n_tasks, 2 * n_checkpoints, sizes.recipe.effects.resamples)
        # Checkpoints that are on disk already need no more room there.
        downloaded = sizes.model in KNOWN.values()
        return sizes.cost(
            self.name,
            f"{n_checkpoints} checkpoints, {n_prompts:,} prompts",
            work,
            device=sizes.model_bytes,
            host=0,
            disk=n_checkpoints * sizes.model.parameters * sizes.model.stored_bytes if downloaded else 0,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.accuracy`, `crosstime.similarity` and `crosstime.select`; each checkpoint is a part."""
        recipe, suite = inputs.recipe, inputs.suite

        # Measure accuracy, each process at its own checkpoints
        def measure(c: int) -> pd.DataFrame:
            return parts.table(f"{c}.csv", lambda: _accuracy(inputs, suite.revisions[c]))

        for c in shard(range(len(suite)), parts.processes):
            measure(c)
        parts.processes.barrier()
        if not parts.processes.first:
            return

        # Join the parts
        table = pd.concat([measure(c) for c in range(len(suite))], ignore_index=True)
        table = table.astype({"step": "Int64", "tokens": "Int64"})
        folder.write_table("accuracy", table)
        if recipe.compare.revisions is not None:
            return

        # Choose the checkpoints to compare
        similarities = similarity(
            suite,
            inputs.site,
            inputs.corpus(held_out=True),
            TextSample(recipe.select.sequences, recipe.corpus.sequence_length),
            compute=inputs.compute,
        )
        folder.write_table("similarity", similarities)
        choice = select(
            recipe.select.k, table, similarities, weight=recipe.select.weight, measure=recipe.select.measure
        )
        folder.write_json("selection", {"revisions": choice.revisions, "total": choice.total})


def _accuracy(inputs: Inputs, revision: str) -> pd.DataFrame:
    """The accuracy of one checkpoint on all tasks."""
    recipe = inputs.recipe
    return accuracy(
        inputs.suite.select([revision]),
        inputs.tokenized,
        sentences=recipe.select.sentences,
        bootstrap=recipe.effects.bootstrap(recipe.seed),
        compute=inputs.compute,
    )
