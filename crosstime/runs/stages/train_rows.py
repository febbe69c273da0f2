"""Train the crosscoder on rows of parameters."""

from __future__ import annotations

import pandas as pd

from crosstime.report.columns import COLUMNS
from crosstime.runs.folder import RunFolder
from crosstime.runs.given_crosscoder import source_identity
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.training_plan import TrainingMemory
from crosstime.runs.plan.work import ADAM_BYTES, Cost, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.train import Train, training_settings
from crosstime.training.train_rows import train_rows


class TrainRows(Train):
    """Writes crosscoder.safetensors and training.csv."""

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """Checkpoints, matrices and all hyper-parameters."""
        recipe, table = inputs.recipe, inputs.recipe.crosscoder
        shared = {"suite": inputs.compared.fingerprint, "rows": inputs.rows_name}
        if table.source is not None:
            return shared | {"source": source_identity(table.source)}
        return shared | {
            "crosscoder": training_settings(table),
            "seed": recipe.seed,
            "dtype": inputs.compute.precision,
        }

    def files(self, recipe: Recipe) -> list[str]:
        """Weights and log."""
        return [RunFolder.CROSSCODER, "training.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Five products of B x C D x F a step, and Adam on 2 C D F weights; rows are read once."""
        if sizes.recipe.crosscoder.source is not None:
            return super().cost(sizes)
        table, c, d = sizes.recipe.crosscoder, sizes.n_checkpoints, sizes.model.d_model
        product = Work(2 * table.batch_size * sizes.cdf, 4 * (sizes.cdf + table.batch_size * c * d))
        work = table.steps * (5 * product + Work(moved=2 * ADAM_BYTES * sizes.cdf))
        work += Work(moved=c * sizes.model.stored_bytes * sizes.model.parameters)

        # The matrices beside the buffer, and the state of training, which is there twice while it is replaced
        memory = TrainingMemory.of(sizes)
        state = 24 * sizes.cdf + memory.buffer
        return sizes.cost(
            self.name,
            f"{table.steps * table.batch_size:,} of {sizes.n_rows:,} rows, C {c}, D {d:,}, F {sizes.n_features:,}",
            work,
            device=memory.crosscoder + memory.batch,
            host=max(memory.filling + sizes.rows_bytes, sizes.model_bytes + sizes.rows_bytes),
            disk=8 * sizes.cdf + min((table.steps - 1) // table.save_every, 2) * state,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.train_rows`; the state of training is kept among the parts."""
        if (crosscoder := inputs.given_crosscoder) is not None:
            folder.write_table("training", pd.DataFrame(columns=list(COLUMNS["training"])))
            crosscoder.save(folder.path / folder.CROSSCODER)
            return
        recipe, table = inputs.recipe, inputs.recipe.crosscoder
        trained = train_rows(
            inputs.rows,
            table.config(),
            data=table.data_config(seed=recipe.seed),
            precision=table.precision,
            checkpointing=table.checkpointing(parts.path("state.safetensors")),
            logging=table.logging(folder.path),
            device=recipe.compute.device,
        )
        folder.write_table("training", trained.log)
        trained.crosscoder.save(folder.path / folder.CROSSCODER)
