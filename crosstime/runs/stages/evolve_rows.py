"""Follow the features of rows of parameters over training, by their decoders."""

from __future__ import annotations

import pandas as pd
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.evolution.evolve import DECODER
from crosstime.evolution.life_cycles import life_cycle_shares
from crosstime.features.top_rows import row_codes, row_shares, top_rows
from crosstime.machine.long_table import long_table
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.evolve import FOLDER, Evolve

TOP_ROWS = "rows"
"""Name of the table of the strongest rows of each feature."""
DECODERS = "decoders"
"""Name of the table of decoder norms of the features that the report shows."""
TABLES = ("evolution", "rotation", "rotation_steps", "dimensionality", "life_cycle_shares", "facts", DECODERS)


class EvolveRows(Evolve):
    """Writes rows.csv and evolution/, a folder of tables; see docs/guides/parameter-rows.md."""

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """The crosscoder, and which features and rows are listed."""
        return [ledger.key("train"), inputs.recipe.rows.top, inputs.recipe.rows.strongest]

    def files(self, recipe: Recipe) -> list[str]:
        """The tables."""
        return [f"{TOP_ROWS}.csv", *(f"{FOLDER}/{name}.csv" for name in TABLES)]

    def cost(self, sizes: Sizes) -> Cost:
        """Codes of all rows, and products of decoder directions."""
        work = sizes.encode(sizes.n_rows)
        work += Work(2 * sizes.cdf * sizes.model.d_model, 4 * sizes.cdf)
        codes = 40 * sizes.n_rows * sizes.n_active
        host = sizes.rows_bytes + sizes.crosscoder_bytes + codes
        return sizes.cost(self.name, f"{sizes.n_rows:,} rows", work, device=0, host=host)

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.top_rows` and `crosstime.evolution.decoder_evolution.decoder_evolution`."""
        crosscoder, table = folder.crosscoder, inputs.recipe.rows
        ordered, revisions = crosscoder.origin.ordered, crosscoder.origin.revisions

        # The decoders of the features that fire: the others keep what they were initialised with
        density, energy = row_shares(crosscoder, row_codes(crosscoder, inputs.rows))
        alive = density.nonzero().flatten()
        tables = decoder_evolution(crosscoder, features=alive.tolist())
        shares = life_cycle_shares(crosscoder.decoder_norms().T[alive], ordered=ordered).assign(source=DECODER)
        tables["life_cycle_shares"] = shares[["source", *shares.columns.drop("source")]]
        evolution = tables["evolution"].assign(density=density[alive].numpy(), written=energy[alive].numpy())
        tables["evolution"] = evolution

        # Those that write most of the rows, of each life cycle
        shown = (
            evolution.sort_values("written", ascending=False, kind="stable")
            .groupby("life_cycle", sort=False, observed=True)
            .head(table.top)
        )
        tables["facts"] = _facts(shown, ordered=ordered)
        tables[DECODERS] = _decoders(crosscoder, shown.feature.tolist(), revisions)

        folder.write_table(TOP_ROWS, top_rows(crosscoder, inputs.rows, most=table.strongest))
        for name in TABLES:
            folder.write_table(f"{FOLDER}/{name}", tables[name])


def _facts(evolution: pd.DataFrame, *, ordered: bool) -> pd.DataFrame:
    """One row for each feature that the report shows, the one that writes most first."""
    of_training = ["onset", "peak", "persistence", "turning_point", "rotation", "dimensionality"]
    facts = evolution[["feature", *(of_training if ordered else ["peak", "dimensionality"])]].copy()
    name, column = ("life_cycle_dec", "life_cycle") if ordered else ("sharing_dec", "label")
    facts[name] = evolution[column].astype(object)
    facts["row_density"], facts["written"] = evolution.density, evolution.written
    return facts


def _decoders(crosscoder: CrossCoder, features: list[int], revisions: tuple[str, ...]) -> pd.DataFrame:
    """Decoder norm and RelDec of features at every checkpoint."""
    norms = crosscoder.decoder_norms().T[features].double()
    total = norms.sum(1, keepdim=True)
    shares = torch.where(total > 0, norms / total, torch.nan)
    return long_table({"feature": features, "revision": revisions}, {"reldec": shares, "decoder_norm": norms})
