"""``crosstime evolve SUITE CROSSCODER TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosstime.cli.options import (
    DataPath,
    Device,
    DType,
    EqualWeights,
    Length,
    MaxTokens,
    PairLimit,
    RemoteHost,
    SamePrompts,
    Sandboxed,
    Seed,
    Sequences,
    SuiteSource,
    TaskNames,
    TrustedCode,
    comma_separated,
)


def evolve(
    suite: SuiteSource,
    crosscoder: Annotated[
        Path,
        typer.Argument(metavar="CROSSCODER", help="The crosscoder's file, such as crosscoder.safetensors of a run."),
    ],
    names: TaskNames,
    path: DataPath = None,
    limit: PairLimit = None,
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
    top: Annotated[
        int, typer.Option("--top", min=1, help="Features selected at each checkpoint and task, by |IE|.")
    ] = 10,
    same_prompts: SamePrompts = False,
    sequences: Sequences = 128,
    length: Length = 64,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the tables.")] = Path("evolution"),
    seed: Seed = 0,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
    sandboxed: Sandboxed = "auto",
) -> None:
    """Follow the features of a crosscoder over training: which emerge, stay, rotate or are discontinued.

    Computes the indirect effects of all features on each task, and writes one CSV file per table to OUT: onsets and
    life cycles by decoder norm and by effect, rotation, dimensionality, tests of specificity; with --text also latent
    scaling and kinds of features; with --dip what the features that are discontinued, or that emerged, do to a dip.
    Features are selected on one half of the prompts, and tested on the other.
    """
    from crosstime.cli.options import (
        load_tasks,
        open_compute,
        open_suite,
        read_sample,
        refuse_few_pairs,
        refuse_file_as_folder,
        refuse_layer_or_length,
        refuse_missing_crosscoder,
        refuse_missing_source,
        refuse_missing_text,
    )
    from crosstime.errors import CrosscoderError, errors_at

    # Read the options, without PyTorch
    texts = dict(_parse_language(language) for language in languages or ())
    dip_checkpoints = None if dip is None else _parse_dip(dip)
    sample = read_sample(sequences, length)
    refuse_file_as_folder(out)
    compute = open_compute(device, dtype, max_tokens, remote, sandboxed=sandboxed, folder=out)
    refuse_missing_text(*texts.values(), place="--language")
    refuse_missing_text(*([] if text is None else [text]), place="--text")
    refuse_missing_crosscoder(crosscoder)
    loaded_tasks = load_tasks(names, path, limit=limit, seed=seed)
    refuse_few_pairs(loaded_tasks, same_prompts=same_prompts)
    refuse_missing_source(suite)

    # Open the crosscoder, attribute each task, and follow the features
    from crosstime.crosscoders.open_crosscoder import open_crosscoder
    from crosstime.crosscoders.training_setting import trained_checkpoints
    from crosstime.effects.attribute import attribute
    from crosstime.evolution.evolve import TextEvidence
    from crosstime.evolution.evolve import evolve as follow_features
    from interventions import Bootstrap
    from user_input.nearest import nearest

    with errors_at("CROSSCODER"):
        loaded = open_crosscoder(crosscoder)
    for revision in dip_checkpoints or ():
        if revision not in loaded.origin.revisions:
            allowed = nearest(revision, loaded.origin.revisions, most=40)
            raise CrosscoderError(f"--dip: the crosscoder has no checkpoint {revision!r}: {allowed}")
    opened = open_suite(
        suite,
        loaded.origin.revisions,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
    )
    with errors_at("SUITE"):
        checkpoints = trained_checkpoints(opened, loaded)
    if text is not None or texts:
        refuse_layer_or_length(checkpoints, length=length)
    attributions = [attribute(checkpoints, loaded, task, seed=seed, compute=compute) for task in loaded_tasks]
    halves = [attribution.selection_and_test(halves=not same_prompts, seed=seed) for attribution in attributions]
    tables = follow_features(
        checkpoints,
        loaded,
        [held_out for _, held_out in halves],
        features={selection.task: selection.top(top) for selection, _ in halves},
        text=TextEvidence(text, texts or None, sample),
        bootstrap=Bootstrap(resamples=1_000, seed=seed),
        compute=compute,
    )

    # Write and print the tables
    from rich.console import Console

    from crosstime.cli.output import print_line, print_traffic
    from crosstime.cli.tables import decoder_table, life_cycle_table
    from crosstime.machine.storage import write_table

    console = Console()
    for name, table in tables.items():
        write_table(out / f"{name}.csv", table)
    console.print(life_cycle_table(tables["life_cycle_shares"]))
    console.print(decoder_table(tables["rotation_steps"], tables["dimensionality"]))
    if "scaling" in tables:
        spurious = tables["scaling"][tables["scaling"].spurious].feature.nunique()
        console.print(
            f"{spurious} of {len(tables['facts'])} selected features only look specific by their decoder norms."
        )
        lives = tables["presence"].drop_duplicates("feature").life_cycle.value_counts()
        counts = ", ".join(f"{count} {life_cycle}" for life_cycle, count in lives.items())
        console.print(f"Life cycles of the selected features by the test of presence: {counts or 'none'}.")

    # Explain the dip in each task
    if dip_checkpoints is not None:
        from crosstime.effects.explain_dip import explain_dip

        at, other = dip_checkpoints
        bootstrap = Bootstrap(resamples=2_000, seed=seed)
        for attribution in attributions:
            answer = explain_dip(checkpoints, loaded, attribution, at, other, bootstrap=bootstrap, compute=compute)
            write_table(out / f"dip_{answer.task.replace('/', '_')}.csv", answer.table)
            console.print(answer.sentence(), markup=False)
    print_traffic(console, compute)
    print_line(console, f"wrote {len(tables)} tables to {out}")


def _parse_dip(text: str) -> tuple[str, str]:
    """The two checkpoints of ``--dip``."""
    from crosstime.errors import CrosstimeError

    revisions = comma_separated(text)
    if len(revisions) != 2:
        raise CrosstimeError(f"--dip takes two checkpoints with a comma between, AT,OTHER, not {text!r}.")
    return revisions[0], revisions[1]


def _parse_language(text: str) -> tuple[str, str]:
    """Name and file of ``--language``."""
    from crosstime.errors import CrosstimeError

    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise CrosstimeError(f"--language is written NAME=FILE, not {text!r}.")
    return name, file
