"""Tables of results for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from crosstime.activations.store import ActivationStore


def accuracy_table(accuracy: pd.DataFrame, compared: Sequence[str] = ()) -> Table:
    """Accuracy of every checkpoint on every task; compared checkpoints carry a star."""
    table = Table(title="Accuracy (* in the crosscoder)" if compared else "Accuracy", title_justify="left")
    table.add_column("checkpoint")
    table.add_column("tokens", justify="right")
    names = list(dict.fromkeys(accuracy.task))
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for revision, rows in accuracy.groupby("revision", sort=False):
        by_task = rows.set_index("task").accuracy
        tokens = rows.tokens.iloc[0]
        star = " *" if revision in compared else ""
        seen = "?" if pd.isna(tokens) else f"{int(tokens):,}"
        table.add_row(f"{escape(revision)}{star}", seen, *(f"{by_task[name]:.3f}" for name in names))
    return table


def evaluation_table(evaluation: pd.DataFrame) -> Table:
    """What a crosscoder explains at every checkpoint; with a deviation behind each number where there are seeds."""
    seeds = "seeds" in evaluation and int(evaluation.seeds.max())
    title = f"Mean ± deviation over {seeds} seeds" if seeds and seeds > 1 else "Evaluation"
    table = Table(title=title, title_justify="left")
    table.add_column("checkpoint")
    columns = {
        "l0": ("features a token", 1), "dead": ("dead features", 0), "fve": ("variance explained", 3),
        "error": ("error", 1), "ce_clean": ("CE clean", 3), "ce_spliced": ("spliced", 3), "ce_zero": ("zero", 3),
        "ce_delta": ("delta CE", 3), "ce_recovered": ("CE recovered", 3),
    }  # fmt: skip
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    for row in evaluation.to_dict("records"):
        cells = []
        for name, (_, decimals) in columns.items():
            cell = "-" if pd.isna(row[name]) else f"{row[name]:,.{decimals}f}"
            deviation = row.get(f"{name}_deviation")
            cells.append(cell if deviation is None or pd.isna(deviation) else f"{cell} ± {deviation:,.{decimals}f}")
        table.add_row(escape(str(row["revision"])), *cells)
    return table


def store_table(store: ActivationStore) -> Table:
    """What a store of activations holds."""
    facts = store.made_from
    table = Table(title=f"Activations at {facts['site']} of {escape(facts['suite'])}", title_justify="left")
    for heading in ("checkpoint", "tokens", "width", "scale"):
        table.add_column(heading, justify="left" if heading == "checkpoint" else "right")
    for revision, scale in zip(store.revisions, store.scales.tolist(), strict=True):
        table.add_row(escape(revision), f"{store.n_tokens:,}", f"{store.d_model:,}", f"{scale:.4g}")
    return table
