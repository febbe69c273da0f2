"""Tables of results for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from crosstime.report.expected_under_null import expected_number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from crosstime.activations.store import ActivationStore
    from crosstime.suites.select import Choice

_UNBOUNDED = 1_000_000
"""A width beyond that of any terminal, at which a table has the width that its cells need."""
_EVALUATION = {
    "l0": ("features a token", 1),
    "dead": ("dead features", 0),
    "fve": ("variance explained", 3),
    "error": ("error", 1),
    "ce_clean": ("CE clean", 3),
    "ce_spliced": ("spliced", 3),
    "ce_zero": ("zero", 3),
    "ce_delta": ("delta CE", 3),
    "ce_recovered": ("CE recovered", 3),
}
"""Heading and decimals of each column of an evaluation."""


class WideTable:
    """A table whose cells are never cut: columns that do not fit beside each other follow in further tables.

    Each of these begins with the first column, which names the rows. Only a cell that is wider than the terminal by
    itself is broken into lines.
    """

    def __init__(self, title: str, headings: Sequence[str]) -> None:
        self.title, self.headings = title, [escape(heading) for heading in headings]
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """Add a row, with a cell for every heading; markup in cells is rendered."""
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Add columns while they fit
        groups: list[list[int]] = [[0]]
        for column in range(1, len(self.headings)):
            wider = [*groups[-1], column]
            if len(groups[-1]) > 1 and self._width(wider, console, options) > options.max_width:
                groups.append([0, column])
            else:
                groups[-1] = wider

        # Only the first table has the title
        for index, columns in enumerate(groups):
            yield self._part(columns, self.title if index == 0 else None)

    def _width(self, columns: Sequence[int], console: Console, options: ConsoleOptions) -> int:
        # The title of a table is wrapped to its columns, and does not count
        part = self._part(columns, None)
        return Measurement.get(console, options.update(max_width=_UNBOUNDED), part).maximum

    def _part(self, columns: Sequence[int], title: str | None) -> Table:
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(self.headings[column], justify="right" if column else "left", overflow="fold")
        for cells in self.rows:
            table.add_row(*(cells[column] for column in columns))
        return table


def table_of(title: str, headings: Sequence[str]) -> WideTable:
    """An empty table with a title, the first column of which is text and the others numbers."""
    return WideTable(title, headings)


def accuracy_table(
    accuracy: pd.DataFrame, compared: Sequence[str] = (), *, title: str = "Accuracy", ordered: bool = True
) -> WideTable:
    """Accuracy of every checkpoint on every task; compared checkpoints carry a star.

    Models side by side (`ordered` is false) have no training tokens.
    """
    tasks = list(dict.fromkeys(accuracy.task))
    names = ["checkpoint", "tokens"] if ordered else ["model"]
    table = table_of(f"{title} (* in the crosscoder)" if compared else title, [*names, *tasks])
    for revision, rows in accuracy.groupby("revision", sort=False):
        by_task = rows.set_index("task").accuracy
        tokens = rows.tokens.iloc[0]
        star = " *" if revision in compared else ""
        training_tokens = "?" if pd.isna(tokens) else f"{int(tokens):,}"
        cells = [f"{escape(str(revision))}{star}", *([training_tokens] if ordered else [])]
        table.add_row(*cells, *(f"{by_task[task]:.3f}" for task in tasks))

    # The number of pairs is the same at every checkpoint
    n = accuracy.drop_duplicates("task").set_index("task").n
    table.add_row("pairs (n)", *([""] if ordered else []), *(f"{int(n[task]):,}" for task in tasks))
    return table


def pairs_table(accuracy: pd.DataFrame) -> Table:
    """How many pairs of each task have a prompt, and why others have none."""
    table = Table(title="Pairs at the answer token", title_justify="left", show_header=False, box=None)
    for row in accuracy.drop_duplicates("task").to_dict("records"):
        table.add_row(escape(f"{row['task']}:"), escape(str(row["pairs"])))
    return table


def evaluation_table(evaluation: pd.DataFrame) -> WideTable:
    """What a crosscoder explains at every checkpoint; with the deviation of each number, if there are seeds."""
    seeds = int(evaluation.seeds.max()) if "seeds" in evaluation else 0
    title = f"Mean ± deviation over {seeds} seeds" if seeds > 1 else "Evaluation"
    table = table_of(title, ["checkpoint", *(heading for heading, _ in _EVALUATION.values())])
    for row in evaluation.to_dict("records"):
        cells = []
        for name, (_, decimals) in _EVALUATION.items():
            cell = "-" if pd.isna(row[name]) else f"{row[name]:,.{decimals}f}"
            deviation = row.get(f"{name}_deviation")
            cells.append(cell if deviation is None or pd.isna(deviation) else f"{cell} ± {deviation:,.{decimals}f}")
        table.add_row(escape(str(row["revision"])), *cells)
    return table


def effects_table(effects: pd.DataFrame) -> WideTable:
    """The indirect effect of the selected features of one task at every checkpoint, and their classes by RelIE."""
    revisions = list(dict.fromkeys(effects.revision))
    table = table_of(f"Indirect effects on {effects.task.iloc[0]}", ["feature", *revisions, "class by RelIE"])
    for feature, rows in effects.groupby("feature", sort=False):
        by_revision = rows.set_index("revision").ie
        table.add_row(f"f{feature}", *(f"{by_revision[name]:+.3f}" for name in revisions), str(rows.class_ie.iloc[0]))
    return table


def ablation_table(ablation: pd.DataFrame) -> WideTable:
    """The change in accuracy of one task at every checkpoint without each group of features."""
    revisions = list(dict.fromkeys(ablation.revision))
    table = table_of(f"Change in accuracy on {ablation.task.iloc[0]}", ["without", *revisions])
    for name, rows in ablation.groupby("features", sort=False):
        change = rows.set_index("revision").accuracy_change
        table.add_row(escape(str(name)), *(f"{change[revision]:+.3f}" for revision in revisions))
    return table


def similarity_table(similarity: pd.DataFrame, site: str) -> WideTable:
    """The mean cosine between the activations of every two checkpoints."""
    table = table_of(f"Mean cosine at {site}", ["", *dict.fromkeys(similarity["revision"])])
    for revision, rows in similarity.groupby("revision", sort=False):
        table.add_row(escape(str(revision)), *(f"{value:.2f}" for value in rows["cosine"]))
    return table


def ngram_table(ngrams: pd.DataFrame) -> WideTable:
    """Loss, divergences and entropies of every checkpoint."""
    names = ("loss", "unigram_kl", "bigram_kl", "unigram_entropy", "bigram_entropy")
    table = table_of("Nats a token", ["checkpoint", *(name.replace("_", " ") for name in names)])
    for row in ngrams.to_dict("records"):
        table.add_row(escape(str(row["revision"])), *(f"{row[name]:.3f}" for name in names))
    return table


def selection_table(choice: Choice) -> WideTable:
    """How much the chosen checkpoints change from one to the next."""
    headings = ("checkpoint", "accuracy", "representation", "weighed")
    table = table_of("Change from the chosen checkpoint before", headings)
    for row in choice.table[choice.table["chosen"]].to_dict("records"):
        changes = (row[name] for name in ("accuracy_change", "representation_change", "change"))
        table.add_row(escape(str(row["revision"])), *("" if pd.isna(change) else f"{change:.3f}" for change in changes))
    return table


def life_cycle_table(shares: pd.DataFrame) -> WideTable:
    """The shares of life cycles, one column a source, as in ``evolution/life_cycle_shares.csv``."""
    sources = list(dict.fromkeys(shares.source))
    title = "Share of features (of the selected ones for IE and the test of presence)"
    table = table_of(title, ["life cycle", *sources])
    for life_cycle, rows in shares.groupby("life_cycle", sort=False):
        by_source = {row["source"]: row for row in rows.to_dict("records")}
        cells = []
        for source in sources:
            # Only the test of presence leaves features undecided
            if source not in by_source:
                cells.append("")
                continue
            share, low, high = (by_source[source][name] for name in ("share", "low", "high"))
            cells.append(escape(f"{share:.2f}" if pd.isna(low) else f"{share:.2f} [{low:.2f}, {high:.2f}]"))
        table.add_row(str(life_cycle), *cells)
    return table


def decoder_table(steps: pd.DataFrame, dimensionality: pd.DataFrame) -> WideTable:
    """Rotation and dimensionality of decoder directions at each checkpoint."""
    headings = ("checkpoint", "degrees", "share of rotation", "turning here", "dimensions", "features")
    table = table_of("Decoder directions", headings)
    rotation = {row["revision"]: row for row in steps.to_dict("records")}
    for row in dimensionality.to_dict("records"):
        step = rotation.get(row["revision"])
        turned = ("", "", "")
        if step is not None:
            turned = f"{step['degrees']:.0f}", f"{step['share']:.2f}", f"{step['turning']:.0f}"
        table.add_row(escape(str(row["revision"])), *turned, f"{row['total']:.1f}", str(row["alive"]))
    return table


def null_table(nulls: pd.DataFrame) -> WideTable:
    """The claims that are false by construction under one null model: how many the run makes and how many are expected.

    Rows of claims that neither the run nor the null model makes are left out.
    """
    title = f"Claims that are false under {', '.join(dict.fromkeys(nulls['null']))}"
    table = table_of(title, ["claim", "observed", "expected", "FDR"])
    rows = nulls[nulls["false"] & ((nulls["count"] > 0) | (nulls["null_count"] > 0))]
    for row in rows.to_dict("records"):
        fdr = _bounded(row["fdr"], row["fdr_low"], row["fdr_high"])
        expected = expected_number(row["expected"], row["low"], row["high"])
        claim, observed = f"{row['source']}: {row['claim']}", f"{row['count']} of {row['n']}"
        table.add_row(*(escape(text) for text in (claim, observed, expected, fdr)))
    return table


def description_table(sources: pd.DataFrame) -> WideTable:
    """What descriptions by a language model say about the run and its null models."""
    headings = ("features of", "described", "complexity", "detection", "fuzzing", "complexity against onset: r", "p")
    table = table_of("Features that were drawn at random", headings)
    for row in sources.to_dict("records"):
        means = [_bounded(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("complexity", *_SCORES)]
        correlation = _bounded(row["onset_r"], row["onset_low"], row["onset_high"])
        p = "-" if pd.isna(row["onset_p"]) else f"{row['onset_p']:.2g}"
        described = f"{row['described']:.0f} of {row['asked']:.0f}"
        table.add_row(*(escape(text) for text in (row["source"], described, *means, correlation, p)))
    return table


_SCORES = ("detection", "fuzzing")


def _bounded(value: float, low: float, high: float) -> str:
    return "-" if pd.isna(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def store_table(store: ActivationStore) -> WideTable:
    """What a store of activations holds."""
    origin = store.made_from
    headings = ("checkpoint", "tokens", "width", "scale")
    table = table_of(f"Activations at {origin['site']} of {escape(origin['suite'])}", headings)
    for revision, scale in zip(store.revisions, store.scales.tolist(), strict=True):
        table.add_row(escape(revision), f"{store.n_tokens:,}", f"{store.d_model:,}", f"{scale:.4g}")
    return table
