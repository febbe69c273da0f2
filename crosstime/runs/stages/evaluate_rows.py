"""Measure how well the crosscoder reconstructs rows of parameters."""

from __future__ import annotations

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost
from crosstime.runs.stages.evaluate import Evaluate
from crosstime.training.evaluate_rows import evaluate_rows


class EvaluateRows(Evaluate):
    """Writes evaluation.csv, of the rows that the crosscoder was trained on."""

    def cost(self, sizes: Sizes) -> Cost:
        """Codes and reconstructions of all rows."""
        work = sizes.encode(sizes.n_rows) + sizes.n_checkpoints * sizes.decode(sizes.n_rows)
        host = sizes.rows_bytes + sizes.crosscoder_bytes
        return sizes.cost(self.name, f"{sizes.n_rows:,} rows", work, device=0, host=host)

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.evaluate_rows`."""
        folder.write_table("evaluation", evaluate_rows(folder.crosscoder, inputs.rows))
