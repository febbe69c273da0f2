"""``crosstime evolve SUITE CROSSCODER TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, REMOTE, SANDBOXED, SEED, SUITE, comma_separated

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def evolve(
    suite: Annotated[str, SUITE],
    crosscoder: Annotated[Path, typer.Argument(help="The crosscoder's file, such as crosscoder.safetensors of a run.")],
    names: Annotated[list[str], typer.Argument(metavar="TASK...", help="Tasks by name; see crosstime tasks.")],
    path: Annotated[Path | None, typer.Option("--path", "-p", help="Where the tasks' data are; else the Hub.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many pairs of a task.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="Text (a file, or hf:ORG/NAME) for latent scaling and kinds.")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="NAME=FILE, text of a language; once for each language.")
    ] = None,
    dip: Annotated[
        str | None,
        typer.Option("--dip", help="AT,OTHER: do features that matter at AT and not at OTHER explain a dip at AT?"),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Features taken at each checkpoint and task, by |IE|.")] = 10,
    sequences: Annotated[int, typer.Option("--sequences", help="How many sequences of text.")] = 128,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 64,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the tables.")] = Path("evolution"),
    seed: Annotated[int, SEED] = 0,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
    remote: Annotated[str | None, REMOTE] = None,
    sandboxed: Annotated[str, SANDBOXED] = "auto",
) -> None:
    """Say which features of a crosscoder emerge, stay, turn, and are given up again, and how sure that is.

    Computes the indirect effects of all features on each task, and writes one CSV file a table to OUT: onsets and life
    cycles by decoder norm and by effect, rotation, dimensionality, tests of specificity; with --text also latent
    scaling and kinds of features; with --dip what the features that are given up, or that emerged, do to a dip.
    """
    from rich.console import Console

    import tasks
    from crosstime.cli.options import compute_for, show_traffic
    from crosstime.crosscoders.crosscoder import CrossCoder
    from crosstime.crosscoders.decompose import trained_checkpoints
    from crosstime.effects.attribute import attribute
    from crosstime.effects.explain_dip import explain_dip
    from crosstime.errors import CrosstimeError
    from crosstime.evolution.evolve import TextEvidence
    from crosstime.evolution.evolve import evolve as all_tables
    from crosstime.machine.storage import write_table
    from crosstime.suites.corpus import TextSample
    from crosstime.suites.suite import Suite
    from interventions import Bootstrap

    spoken = dict(_named(text) for text in languages or ())
    ends = comma_separated(dip) if dip is not None else []
    if dip is not None and len(ends) != 2:
        raise CrosstimeError(f"--dip takes two checkpoints with a comma between, AT,OTHER, not {dip!r}.")
    compute = compute_for(device, dtype, max_tokens, remote, sandboxed=sandboxed, folder=out)
    loaded = CrossCoder.load(crosscoder)
    chosen = trained_checkpoints(Suite.open(suite, loaded.origin.revisions), loaded)
    found = [
        attribute(chosen, loaded, tasks.load(name, path, limit=limit, seed=seed), seed=seed, compute=compute)
        for name in names
    ]
    tables = all_tables(
        chosen,
        loaded,
        found,
        top=top,
        text=TextEvidence(text, spoken or None, TextSample(sequences, length)),
        bootstrap=Bootstrap(resamples=1_000, seed=seed),
        compute=compute,
    )
    console = Console()
    for name, table in tables.items():
        write_table(out / f"{name}.csv", table)
    console.print(shares_table(tables["life_cycle_shares"]))
    console.print(decoder_table(tables["rotation_steps"], tables["dimensionality"]))
    if "scaling" in tables:
        flagged = tables["scaling"][tables["scaling"].spurious].feature.nunique()
        console.print(
            f"{flagged} of {len(tables['facts'])} selected features only look specific by their decoder norms."
        )
    if ends:
        answers = [
            explain_dip(chosen, loaded, one, *ends, bootstrap=Bootstrap(resamples=2_000, seed=seed), compute=compute)
            for one in found
        ]
        for answer in answers:
            write_table(out / f"dip_{answer.task.replace('/', '_')}.csv", answer.table)
            console.print(answer.sentence(), markup=False)
    show_traffic(compute, console)
    console.print(f"wrote {len(tables)} tables to {out}", highlight=False, markup=False, soft_wrap=True)


def shares_table(shares: pd.DataFrame) -> Table:
    """Share of features with each life, one column a source, as a table for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    sources = list(dict.fromkeys(shares.source))
    table = Table(title="Share of features (of the selected ones for IE)", title_justify="left")
    table.add_column("life cycle")
    for source in sources:
        table.add_column(escape(source), justify="right")
    for kind, rows in shares.groupby("life_cycle", sort=False):
        at = rows.set_index("source")
        table.add_row(str(kind), *(_share(at.loc[source]) for source in sources))
    return table


def decoder_table(steps: pd.DataFrame, dimensionality: pd.DataFrame) -> Table:
    """Rotation and dimensionality at each checkpoint, as a table for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Decoder directions", title_justify="left")
    for name in ("checkpoint", "degrees", "share of rotation", "turning here", "dimensions", "features"):
        table.add_column(name, justify="left" if name == "checkpoint" else "right")
    turned = steps.set_index("revision")
    for row in dimensionality.itertuples(index=False):
        step = turned.loc[row.revision] if row.revision in turned.index else None
        moved = ("", "", "") if step is None else (f"{step.degrees:.0f}", f"{step.share:.2f}", f"{step.turning:.0f}")
        table.add_row(escape(str(row.revision)), *moved, f"{row.total:.1f}", str(row.alive))
    return table


def _share(row: pd.Series) -> str:
    interval = "" if row.low != row.low else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.share:.2f}{interval}".replace("[", r"\[")


def _named(text: str) -> tuple[str, str]:
    from crosstime.errors import CrosstimeError

    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise CrosstimeError(f"--language is written NAME=FILE, not {text!r}.")
    return name, file
