"""Train the crosscoder."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import pandas as pd

from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.report.columns import COLUMNS
from crosstime.runs.folder import RunFolder
from crosstime.runs.given_crosscoder import source_identity
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.training_plan import TrainingMemory
from crosstime.runs.plan.work import ADAM_BYTES, Cost, Work
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.stage import Stage
from crosstime.training.train_several import train_several


class Train(Stage):
    """Writes crosscoder.safetensors and training.csv; with several seeds also seeds/, those of the others."""

    name: ClassVar[str] = "train"
    title: ClassVar[str] = "the crosscoder"
    collective: ClassVar[bool] = True

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Checkpoints, site, text, and all hyper-parameters; not how often the state is saved, nor the loggers."""
        recipe, table = inputs.recipe, inputs.recipe.crosscoder
        if table.source is not None:
            return {
                "suite": inputs.compared.fingerprint,
                "site": recipe.compare.site,
                "source": source_identity(table.source),
            }
        null = {} if inputs.null_batches is None else {"null": asdict(inputs.null_batches)}
        return {
            "suite": inputs.compared.fingerprint,
            "site": recipe.compare.site,
            "crosscoder": training_settings(table),
            "corpus": inputs.corpus_identity(),
            "seed": recipe.seed,
            "dtype": inputs.compute.precision,
            **null,
        }

    def files(self, recipe: Recipe) -> list[str]:
        """Weights and log."""
        others = recipe.crosscoder.other_seeds
        logs = [f"{RunFolder.SEEDS}/{seed}.csv" for seed in others]
        return [RunFolder.CROSSCODER, "training.csv", *(RunFolder.seed_file(seed) for seed in others), *logs]

    def cost(self, sizes: Sizes) -> Cost:
        """Five products of B x C D x F a step, Adam on 2 C D F weights, and the activations of every token.

        Several seeds share the activations, and several processes all of it.
        """
        if sizes.recipe.crosscoder.source is not None:
            held = 4 * sizes.cdf
            what = f"F {sizes.n_features:,}, from {sizes.recipe.crosscoder.source}"
            return sizes.cost(self.name, what, Work(moved=2 * held), device=0, host=2 * held, disk=2 * held)
        table, c, d, f = sizes.recipe.crosscoder, sizes.n_checkpoints, sizes.model.d_model, sizes.n_features
        batch, tokens = table.batch_size, table.steps * table.batch_size
        stored = sizes.recipe.corpus.store() is not None

        # Steps
        codes = sizes.n_gates * f
        product = Work(2 * batch * sizes.cdf, 4 * (sizes.cdf + batch * (c * d + codes)))
        work = sizes.n_seeds * table.steps * (5 * product + Work(moved=2 * ADAM_BYTES * sizes.cdf))

        # Activations; the first token of a sequence is read and not trained on
        if not stored:
            text = sizes.text_pass
            work += c * text.blocks(sizes.layer + 1, tokens * text.length / (text.length - 1))
        work = (1 / sizes.processes) * work

        # A batch is freed before the buffer is filled
        memory = TrainingMemory.of(sizes)
        device = memory.crosscoder + memory.batch + (0 if stored else sizes.model_bytes)
        host = memory.filling if sizes.gpu else max(memory.buffer, memory.filling - memory.batch)
        if not sizes.gpu:
            # The processes share the machine's memory
            host += (sizes.processes - 1) * device

        # The crosscoder, and its state, which is there twice while it is replaced
        state = 24 * sizes.n_seeds * sizes.cdf + memory.buffer
        disk = 8 * sizes.n_seeds * sizes.cdf + min((table.steps - 1) // table.save_every, 2) * state
        what = f"{tokens:,} tokens, C {c}, D {d:,}, F {f:,}" + (", from a store" if stored else "")
        what += f", {sizes.n_seeds} seeds" if sizes.n_seeds > 1 else ""
        return sizes.cost(self.name, what, work, device, host, disk)

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.train_several`; the state of training is kept among the parts."""
        if (existing := inputs.given_crosscoder) is not None:
            if parts.processes.first:
                folder.write_table("training", pd.DataFrame(columns=list(COLUMNS["training"])))
                existing.save(folder.path / folder.CROSSCODER)
            return
        recipe, table = inputs.recipe, inputs.recipe.crosscoder
        data = table.data_config(sequence_length=recipe.corpus.sequence_length, seed=recipe.seed)
        results = train_several(
            inputs.compared,
            inputs.site,
            inputs.store or inputs.corpus(),
            table.configs(),
            data=replace(data, null=inputs.null_batches),
            precision=table.precision,
            checkpointing=table.checkpointing(parts.path("state.safetensors")),
            logging=table.logging(folder.path),
            compute=inputs.compute,
        )

        # Other seeds are saved beside the crosscoder of the run
        trained = results[0]
        if parts.processes.first and table.other_seeds:
            (folder.path / folder.SEEDS).mkdir(exist_ok=True)
            for seed, result in zip(table.other_seeds, results[1:], strict=True):
                folder.write_table(f"{folder.SEEDS}/{seed}", result.log)
                result.crosscoder.save(folder.path / folder.seed_file(seed))

        # Shards are saved by all processes; the first one joins them, a block at a time
        crosscoder = trained.crosscoder
        sharded = crosscoder.shard.processes.size > 1
        if sharded:
            crosscoder.save(parts.path(folder.CROSSCODER))
        if parts.processes.first:
            folder.write_table("training", trained.log)
            if sharded:
                crosscoder = SlicedCrossCoder(parts.path(folder.CROSSCODER))
            crosscoder.save(folder.path / folder.CROSSCODER)


def training_settings(table: CrosscoderRecipe) -> dict[str, object]:
    """The settings of a crosscoder that decide the result of its training."""
    passed_over = {"save_every", "loggers", "max_activation_norm_multiple", "scale_by", "source"}
    settings = {key: value for key, value in asdict(table).items() if key not in passed_over}
    # The settings about norms are there where they are not the defaults, as in runs made before there was a choice
    settings |= table.data_config().norm_settings()
    if table.frozen is None:
        del settings["frozen"]
    if not table.seeds:
        del settings["seeds"]
    return {"kind": table.kind, **settings}
