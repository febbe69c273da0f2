"""Test whether dips in accuracy are caused by features that are discontinued, or that have emerged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pandas as pd

from crosstime.effects.dip import COLUMNS, Dip
from crosstime.effects.explain_dip import DipTest, explain_dip
from crosstime.machine.storage import read_json, write_json
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import PROMPT_TOKENS, Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.suites.find_dips import DipCheckpoints, find_dips
from interventions import Bootstrap


class Explain(Stage):
    """Writes dips.csv, the tables of all dips, and dips.json, the features and findings of each."""

    name: ClassVar[str] = "explain"
    title: ClassVar[str] = "dips explained"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Accuracy, by which dips are found, the effects, and how dips are explained."""
        return [ledger.key("select"), ledger.key("attribute"), asdict(inputs.recipe.dip)]

    def files(self, recipe: Recipe) -> list[str]:
        """The tables and the findings; both are empty if no task dips."""
        return ["dips.csv", "dips.json"]

    def cost(self, sizes: Sizes) -> Cost:
        """Upper bound: assumes that every task dips."""
        table = sizes.recipe.dip
        dipping = [max(sizes.prompts)] if table.task else sizes.prompts
        n_prompts = sum(min(n / 2, table.prompts) for n in dipping)
        tokens = n_prompts * PROMPT_TOKENS * (2 * table.draws + 4)
        return sizes.cost(
            self.name,
            f"at most {len(dipping)} dip{'s' if len(dipping) > 1 else ''}, {table.draws} draws",
            sizes.prompt_pass.blocks(sizes.blocks_above, tokens),
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(sizes.prompt_tokens),
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.find_dips` and `crosstime.explain_dip`; each dip is a part."""
        dips = [_explain(inputs, folder, parts, place) for place in _places(inputs, folder)]

        # The tables of all dips, one after the other
        columns = ["dip", "at", "other", *COLUMNS]
        tables = [dip.table.assign(dip=dip.task, at=dip.at, other=dip.other) for dip in dips]
        empty = pd.DataFrame(columns=columns)
        folder.write_table("dips", pd.concat(tables, ignore_index=True)[columns] if tables else empty)

        # The findings
        findings = [
            {
                "task": dip.task,
                "at": dip.at,
                "other": dip.other,
                "given_up": dip.given_up,
                "harmful": dip.harmful,
                "helpful": dip.helpful,
                "explained": dip.explained,
                "sentence": dip.sentence(),
            }
            for dip in dips
        ]
        folder.write_json("dips", findings)


def _places(inputs: Inputs, folder: RunFolder) -> list[DipCheckpoints]:
    """The dips to explain: the one that the recipe names, or else those in the table of accuracy."""
    table = inputs.recipe.dip
    if table.task is not None and table.at is not None and table.other is not None:
        return [DipCheckpoints(table.task, table.at, table.other)]
    if not inputs.compared.ordered:
        # A dip is lower than before and after
        return []
    return find_dips(folder.table("accuracy"), inputs.compared.revisions)


def _explain(inputs: Inputs, folder: RunFolder, parts: Parts, place: DipCheckpoints) -> Dip:
    """Explain one dip."""
    names, table, crosscoder = [task.name for task in inputs.tasks], inputs.recipe.dip, folder.crosscoder
    index = names.index(place.task)

    def write(path: Path) -> None:
        attribution = folder.attribution(index, inputs.decomposed(index, crosscoder))
        dip = explain_dip(
            inputs.compared,
            crosscoder,
            attribution,
            place.at,
            place.other,
            others=[inputs.decomposed(task, crosscoder) for task in range(len(names)) if task != index],
            test=DipTest(top=table.top, prompts=table.prompts, draws=table.draws),
            bootstrap=Bootstrap(resamples=2_000, seed=inputs.recipe.seed),
            compute=inputs.compute,
        )
        write_json(path, dip.to_dict())

    return Dip.of(read_json(parts.file(f"{index}.json", write)))
