"""Repeat the run under null models, and count what it claims where there is nothing to find."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import pandas as pd
import torch

from crosstime.crosscoders.decompose import decompose_text
from crosstime.errors import RunError
from crosstime.evolution.claims import DECODER, RELDEC, decoder_claims, dip_claims, effect_claims, presence_claims
from crosstime.evolution.false_discoveries import false_discoveries
from crosstime.machine.processes import Processes
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.null_inputs import NullInputs, NullModel
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.repeat import repeat
from crosstime.runs.stages.attribute import Attribute
from crosstime.runs.stages.evaluate import evaluation_sample
from crosstime.runs.stages.evolve import FOLDER, Evolve
from crosstime.runs.stages.explain import Explain
from crosstime.runs.stages.stage import Stage
from crosstime.runs.stages.train import Train

NULLS = "nulls"
"""Name of the table, and of the folder with a folder for each training of a null model."""
FORMAT = 2
"""Raised where the table counts other claims, so that a run of an earlier version makes it again."""
REPEATED: tuple[Stage, ...] = (Train(), Attribute(), Evolve(), Explain())
"""The stages that a null model repeats; checkpoints, accuracy and prompts are those of the run."""


class Null(Stage):
    """Writes nulls.csv, and nulls/, a folder for each training of a null model; part of recipes that ask for it."""

    name: ClassVar[str] = "null"
    title: ClassVar[str] = "null models"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """All that the run claims, the size of its error term, and the null models."""
        return [*(ledger.key(name) for name in ("evaluate", "evolve", "explain")), asdict(inputs.recipe.null), FORMAT]

    def files(self, recipe: Recipe) -> list[str]:
        """The table."""
        return [f"{NULLS}.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """The repeated stages, for every seed of every null model."""
        costs = [stage.cost(sizes) for stage in REPEATED]
        table = sizes.recipe.null
        repetitions = len(table.kinds) * table.seeds
        suites = repetitions * sizes.n_checkpoints * sizes.model_bytes if "random-weights" in table.kinds else 0
        work = costs[0].work
        for cost in costs[1:]:
            work += cost.work
        return Cost(
            self.name,
            f"{repetitions} training{'s' if repetitions > 1 else ''}, with effects and dips",
            repetitions * work,
            max(cost.memory for cost in costs),
            max(cost.host for cost in costs),
            repetitions * sum(cost.disk for cost in costs) + suites,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """Train, attribute, evolve and explain under each null model; each keeps a record of its stages."""
        table, processes = inputs.recipe.null, parts.processes
        if table.checkpoint is not None and table.checkpoint not in inputs.compared.revisions:
            raise RunError(
                f"null.checkpoint: {table.checkpoint!r} is not among the checkpoints that were chosen, "
                f"{', '.join(inputs.compared.revisions)}"
            )

        # Repeat the run
        repeated: dict[str, list[tuple[NullInputs, RunFolder, bool]]] = {}
        for kind in table.kinds:
            for seed in range(table.seeds):
                null = NullModel(kind, seed, table.checkpoint)
                repeated.setdefault(kind, []).append(_repeat(inputs, folder, null, processes))
        if not processes.first:
            return

        # Count the claims of each, and compare them with those of the run
        claims = _claims(inputs, folder)
        tables = [
            false_discoveries(claims, [_null_claims(claims, *null) for null in nulls], kind, level=table.level)
            for kind, nulls in repeated.items()
        ]
        folder.write_table(NULLS, pd.concat(tables, ignore_index=True))


def _repeat(
    inputs: Inputs, folder: RunFolder, null: NullModel, processes: Processes
) -> tuple[NullInputs, RunFolder, bool]:
    """Run the repeated stages of one null model in a folder of its own; also whether it selected features."""
    null_folder = RunFolder(folder.path / NULLS / null.name)
    null_inputs = NullInputs(inputs, null, null_folder)
    selected = repeat(null_inputs, folder, REPEATED, processes, f"null model {null.name}", null=asdict(null))
    return null_inputs, null_folder, selected


def _null_claims(claims: pd.DataFrame, inputs: Inputs, folder: RunFolder, selected: bool) -> pd.DataFrame:
    """The claims of a null model; where it selects no feature, none of as many as the run could make about those."""
    if selected:
        return _claims(inputs, folder)
    about_selected = claims[~claims.source.isin([RELDEC, DECODER])]
    return pd.concat([_decoder_claims(inputs, folder), about_selected.assign(count=0)], ignore_index=True)


def _decoder_claims(inputs: Inputs, folder: RunFolder) -> pd.DataFrame:
    """Classes and life cycles by the decoders of the features that fire on the text of the evaluation."""
    crosscoder = folder.crosscoder
    ordered, norms = crosscoder.origin.ordered, crosscoder.decoder_norms().T[_live(inputs, folder)]
    return decoder_claims(norms, crosscoder.origin.revisions, ordered=ordered)


def _claims(inputs: Inputs, folder: RunFolder) -> pd.DataFrame:
    """The claims of a run or of a null model: classes and life cycles of features, and explained dips."""
    ordered, by_decoder = folder.crosscoder.origin.ordered, _decoder_claims(inputs, folder)
    by_effect = effect_claims(folder.table("effects"), folder.table(f"{FOLDER}/life_cycles"), ordered=ordered)
    tables = [by_decoder, by_effect, dip_claims([bool(dip["explained"]) for dip in folder.dips])]
    if inputs.recipe.evolve.text:
        tables.append(presence_claims(folder.table(f"{FOLDER}/presence"), ordered=ordered))
    claims = pd.concat(tables, ignore_index=True)
    return claims.astype({"count": "int64", "n": "int64"})


def _live(inputs: Inputs, folder: RunFolder) -> list[int]:
    """The features that fire on the text of the evaluation."""
    corpus, sample = inputs.corpus(held_out=True), evaluation_sample(inputs)
    text = decompose_text(
        inputs.compared, folder.crosscoder, corpus, sample=sample, transform=inputs.transform, compute=inputs.compute
    )
    return list(torch.unique(text.codes.feature).tolist())
