"""Compare the crosscoder with neurons, components, random directions and autoencoders on the same axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch

from crosstime.crosscoders.baselines.baseline_dictionaries import baseline_dictionaries
from crosstime.crosscoders.baselines.checkpoint_slice import checkpoint_slice
from crosstime.crosscoders.baselines.names import CHAIN, FITTED
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.select_prompts import select_prompts
from crosstime.effects.baselines import baselines
from crosstime.errors import RunError
from crosstime.machine.checksum import checksum_of
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import PROMPT_TOKENS, Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.read_autoencoder import read_autoencoder
from crosstime.runs.recipe.baselines import CUT_OUT, TRAINED
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.attribute import MEAN_NODES
from crosstime.runs.stages.evaluate import evaluation_sample, evaluation_sequences
from crosstime.runs.stages.stage import Stage
from crosstime.runs.stages.train import Train
from crosstime.runs.work_shares import broadcast
from crosstime.training.train import train
from crosstime.training.train_chain import train_chain
from interventions import Bootstrap, Estimator
from user_input.home import expanded

BASELINES = "baselines"
"""Name of the table."""
RESAMPLES = 2_000
"""Resamples of the bootstrap over prompts."""
CODE_BYTES = 20
"""Bytes of one code at one token."""


class Baselines(Stage):
    """Writes baselines.csv; part of recipes that ask for it."""

    name: ClassVar[str] = "baselines"
    title: ClassVar[str] = "baselines"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The crosscoder, which knows text and checkpoints, the tasks, the estimator, and the baselines."""
        table = inputs.recipe.baselines
        return {
            "crosscoder": ledger.key("train"),
            "effects": inputs.recipe.effects.to_dict(),
            "baselines": asdict(table),
            "sae": None if table.sae_file is None else _checksums(expanded(table.sae_file)),
            **inputs.task_identity(),
        }

    def files(self, recipe: Recipe) -> list[str]:
        """The table."""
        return [f"{BASELINES}.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Effects and nested sets of every dictionary, activations of text, and the training of autoencoders."""
        table, c, d = sizes.recipe.baselines, sizes.n_checkpoints, sizes.model.d_model
        n_dictionaries, n_tasks = len(table.names) + 1, len(sizes.prompts)
        n_prompts = sum(min(n, table.prompts) for n in sizes.prompts)
        tokens, forward, above = n_prompts * PROMPT_TOKENS, sizes.prompt_pass, sizes.blocks_above

        # Effects on all prompts, nested sets on half of them, and three bootstraps of the sets
        effects = sizes.recipe.effects
        nodes = 1 if effects.method == "atp" else effects.steps or MEAN_NODES
        passes = forward.blocks(above, 2 * tokens) + forward.blocks(above, nodes * tokens, gradients=True)
        passes += forward.blocks(above, (len(table.sizes) + 1) * tokens)
        passes += 3 * n_tasks * sizes.bootstrap(n_prompts / 2 / n_tasks, len(table.sizes) + 2, RESAMPLES)
        work = n_dictionaries * c * passes

        # Covariances of the activations of text
        text_tokens = 0
        if set(table.names) & set(FITTED):
            length = sizes.text_pass.length
            text_tokens = length * evaluation_sequences(length, c, d)
            work += c * sizes.text_pass.blocks(sizes.layer + 1, text_tokens) + sizes.encode(text_tokens)
            work += Work(6 * c * text_tokens * d * d + 60 * c * d**3)

        # Autoencoders of one checkpoint, which cost their share of the crosscoder
        training = Train().cost(sizes)
        trainings = c * (CHAIN in table.names) + (table.transferred and table.sae == TRAINED)
        work += (trainings / c) * training.work

        most = max(min(n, table.prompts) for n in sizes.prompts) * PROMPT_TOKENS
        host = sizes.decomposed_bytes(max(sizes.prompt_tokens, text_tokens)) + 2 * CODE_BYTES * most * c * d
        what = f"{len(table.names)} dictionaries, {n_prompts:,} prompts"
        what += f", {trainings} training{'s' if trainings > 1 else ''}" if trainings else ""
        own = sizes.cost(self.name, what, work, sizes.model_bytes, host, trainings * 8 * d * sizes.n_features)
        if not trainings:
            return own
        return replace(own, memory=max(own.memory, training.memory), host=max(own.host, training.host))

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.baselines`; each autoencoder and each task is a part."""
        recipe, table = inputs.recipe, inputs.recipe.baselines
        chain, autoencoder = _autoencoders(inputs, folder, parts)
        if not parts.processes.first:
            return

        # Make the dictionaries, unless every task is finished
        tasks = range(len(inputs.tasks))
        dictionaries: dict[str, Dictionary] = {}
        if not all(parts.is_finished(f"{task}.csv") for task in tasks):
            dictionaries = baseline_dictionaries(
                inputs.compared,
                folder.crosscoder,
                inputs.corpus(held_out=True),
                table.names,
                autoencoder=autoencoder,
                chain=chain,
                seed=recipe.seed,
                sample=evaluation_sample(inputs),
                compute=inputs.compute,
            )

        # Compare them on each task
        def compared(task: int) -> pd.DataFrame:
            return baselines(
                inputs.compared,
                folder.crosscoder,
                _prompts(inputs, folder, task),
                dictionaries,
                sizes=table.sizes,
                estimator=_estimator(recipe),
                bootstrap=Bootstrap(RESAMPLES, recipe.seed),
                compute=inputs.compute,
            )

        tables = [parts.table(f"{task}.csv", partial(compared, task)) for task in tasks]
        folder.write_table(BASELINES, pd.concat(tables, ignore_index=True))


def _estimator(recipe: Recipe) -> Estimator:
    """How the features of every dictionary are ranked: as the run's, but towards the mean.

    Exact effects take a pass for each feature that fires, which of neurons and components are all.
    """
    effects = recipe.effects
    method = "ig" if effects.method == "exact" else effects.method
    return Estimator(
        method=method,
        baseline="mean",
        metric=effects.metric,
        quadrature=effects.quadrature,
        steps=effects.steps,
        tolerance=effects.tolerance,
    )


def _prompts(inputs: Inputs, folder: RunFolder, task: int) -> DecomposedTask:
    """The decomposed prompts of a task, or as many of them, drawn at random, as the recipe allows."""
    decomposed, most = inputs.decomposed(task, folder.crosscoder), inputs.recipe.baselines.prompts
    if len(decomposed.prompts) <= most:
        return decomposed
    generator = torch.Generator().manual_seed(inputs.recipe.seed)
    rows = torch.randperm(len(decomposed.prompts), generator=generator)[:most]
    return select_prompts(decomposed, rows.sort().values.tolist())


def _autoencoders(inputs: Inputs, folder: RunFolder, parts: Parts) -> tuple[tuple[CrossCoder, ...], CrossCoder | None]:
    """The chain of autoencoders, empty if there is none, and the autoencoder that is applied to all checkpoints.

    All processes train together; only the first needs what is read from files.
    """
    recipe, table, revisions = inputs.recipe, inputs.recipe.baselines, inputs.compared.revisions
    checkpoint = table.checkpoint or revisions[-1]
    if checkpoint not in revisions:
        raise RunError(
            f"baselines.checkpoint: {checkpoint!r} is not among the checkpoints that were chosen, "
            f"{', '.join(revisions)}"
        )
    crosscoder = recipe.crosscoder
    data = crosscoder.data_config(sequence_length=recipe.corpus.sequence_length, seed=recipe.seed)

    # The chain; its first autoencoder is what training on this checkpoint alone gives
    chain: tuple[CrossCoder, ...] = ()
    if CHAIN in table.names:
        chain = train_chain(
            inputs.compared,
            inputs.site,
            inputs.corpus(),
            crosscoder.config(),
            data=data,
            precision=crosscoder.precision,
            keep=lambda revision, trained: _part_autoencoder(
                parts, f"chain-{revisions.index(revision)}.safetensors", trained
            ),
            compute=inputs.compute,
        )
    if not table.transferred:
        return chain, None
    if table.sae == CUT_OUT:
        return chain, checkpoint_slice(folder.crosscoder, checkpoint) if parts.processes.first else None
    if table.sae != TRAINED:
        return chain, read_autoencoder(table, folder.crosscoder.origin) if parts.processes.first else None
    if chain and checkpoint == revisions[0]:
        return chain, chain[0]

    def trained() -> CrossCoder:
        alone = inputs.compared.select([checkpoint])
        settings, precision = crosscoder.config(), crosscoder.precision
        return train(
            alone, inputs.site, inputs.corpus(), settings, data=data, precision=precision, compute=inputs.compute
        ).crosscoder

    return chain, _part_autoencoder(parts, f"sae-{revisions.index(checkpoint)}.safetensors", trained)


def _part_autoencoder(parts: Parts, name: str, trained: Callable[[], CrossCoder]) -> CrossCoder:
    """An autoencoder that is a part: read, or trained by all processes and written by the first."""
    if not broadcast(parts.is_finished(name), parts.processes):
        autoencoder = trained()
        if parts.processes.first:
            parts.file(name, autoencoder.save)
        parts.processes.barrier()
    return CrossCoder.load(parts.path(name))


def _checksums(path: Path) -> dict[str, str]:
    """Checksums of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): checksum_of(file) for file in files}
