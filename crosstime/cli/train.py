"""``crosstime train SUITE --corpus TEXT``"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import (
    Device,
    DType,
    EqualWeights,
    Length,
    MaxTokens,
    Revisions,
    SiteName,
    SuiteSource,
    TextStart,
    TrustedCode,
    refuse_missing_text,
)

if TYPE_CHECKING:
    from crosstime.activations.store import ActivationStore

CROSSCODER, STATE = "crosscoder.safetensors", "training.safetensors"


def train(
    suite: SuiteSource,
    corpus: Annotated[
        list[str],
        typer.Option(
            "--corpus",
            "-c",
            help="Text (.txt, .jsonl, also .gz), a Hub data set written hf:ORG/NAME, or a folder that crosstime "
            "harvest wrote; may be repeated.",
            show_default=False,
        ),
    ],
    site: SiteName = "resid.-1",
    kind: Annotated[
        str, typer.Option("--kind", "-k", help="l1, topk, batchtopk, jumprelu or jumprelu_per_checkpoint.")
    ] = "l1",
    features: Annotated[int | None, typer.Option("--features", "-f", help="Size of the dictionary.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Tokens of a step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another key of a recipe's [crosscoder], such as --set k=32; may be repeated."),
    ] = None,
    length: Length = 64,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Fraction of the documents that is held out, to evaluate on.")
    ] = 0.02,
    evaluated: Annotated[int, typer.Option("--evaluate", help="Sequences to evaluate on; 0: none.")] = 256,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crosscoder and its tables.")] = Path(
        "crosscoder"
    ),
    revisions: Revisions = None,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    text_start: TextStart = "tokenizer",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the initialization and of the order of the text.")
    ] = 124,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    shards: Annotated[
        int, typer.Option("--shards", help="Processes of torchrun among which the features are divided.")
    ] = 1,
) -> None:
    """Train one crosscoder for all checkpoints of a suite, and evaluate it on held-out text.

    Writes crosscoder.safetensors, training.csv, metrics.jsonl and evaluation.csv to OUT. A training run that was
    stopped resumes when the same command is given again. Settings without an option have the defaults of the kind: for
    CTT's kinds those of the paper, with 16,384 features and 100,000 steps of 4,096 tokens.

    The checkpoints run here. For checkpoints on a server, write their activations with crosstime harvest --remote.

    On several GPUs or machines: torchrun --no-python --nproc-per-node 8 crosstime train ...
    A dictionary that is too large for one device is divided among several with --shards; crosscoder.safetensors then
    consists of several files and an index, which every command reads as one.
    """
    from dataclasses import replace

    from crosstime.cli.option_errors import errors_about
    from crosstime.cli.options import (
        open_compute,
        open_suite,
        read_sample,
        read_site,
        refuse_file_as_folder,
        refuse_layer_or_length,
    )
    from crosstime.errors import errors_at
    from crosstime.runs.recipe.build import crosscoder_table

    # Read the options, without PyTorch
    options = {"n_features": features, "steps": steps, "batch_size": batch, "lr": lr}
    keys = {name: value for name, value in options.items() if value is not None}
    places = {"kind": "--kind", "seed": "--seed", "n_features": "--features", "steps": "--steps"}
    places |= {"batch_size": "--batch", "lr": "--lr"}
    places |= {setting.partition("=")[0].strip(): "--set" for setting in settings or ()}
    with errors_about(places, "--set", head=r"crosscoder: (?:\[crosscoder\] |crosscoder\.)?"):
        table = crosscoder_table({"kind": kind, "seed": seed, **keys}, settings or [])
    with errors_at("--length"):
        read_sample(1, length)
    with errors_at("--evaluate"):
        sample = read_sample(evaluated or 1, length)
    read_at = read_site(site)
    refuse_file_as_folder(out)
    with errors_at("--held-out"):
        data = replace(table.data_config(sequence_length=length, seed=seed), validation=held_out)
    with errors_at("--corpus"):
        source = _open_corpus(corpus)
    checkpoints = open_suite(
        suite,
        revisions,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
        text_start=text_start,
    )
    compute = open_compute(device, dtype, max_tokens, feature_shards=shards)
    refuse_layer_or_length(checkpoints, site=read_at, length=length if isinstance(source, list) else None)

    # Train
    from crosstime.training.train import train as train_crosscoder

    with errors_about({"batch": "--batch", "feature_shards": "--shards", "features": "--features"}):
        trained = train_crosscoder(
            checkpoints,
            read_at,
            source,
            table.config(),
            data=data if isinstance(source, list) else replace(data, validation=0.0),
            precision=table.precision,
            checkpointing=table.checkpointing(out / STATE),
            logging=table.logging(out),
            compute=compute,
        )

    # Write; every process writes its shard
    from rich.console import Console

    from crosstime.cli.output import print_paths
    from crosstime.machine.processes import join_processes
    from crosstime.machine.sharded_tensors import remove_parts
    from crosstime.machine.storage import write_table

    crosscoder = trained.crosscoder
    crosscoder.save(out / CROSSCODER)
    if not join_processes(compute.torch_device).first:
        return
    write_table(out / "training.csv", trained.log)
    (out / STATE).unlink(missing_ok=True)
    remove_parts(out / STATE)
    paths = [out / CROSSCODER, out / "training.csv", out / "metrics.jsonl"]
    console = Console()
    console.print(
        f"{table.config().summary()}, {table.n_features:,} features, {trained.tokens:,} tokens", highlight=False
    )

    # Evaluate on the held-out documents, which a store does not have
    if evaluated and held_out and isinstance(source, list):
        from crosstime.cli.tables import evaluation_table
        from crosstime.crosscoders.evaluate import evaluate
        from crosstime.crosscoders.open_crosscoder import open_crosscoder
        from crosstime.report.outlier_note import outlier_note

        evaluation = evaluate(
            checkpoints,
            crosscoder if shards == 1 else open_crosscoder(out / CROSSCODER),
            _held_out_documents(source, held_out),
            sample=sample,
            compute=compute,
        )
        write_table(out / "evaluation.csv", evaluation)
        paths.append(out / "evaluation.csv")
        console.print(evaluation_table(evaluation))
        if note := outlier_note(evaluation):
            console.print(note, highlight=False)
    print_paths(console, paths)


def _open_corpus(corpus: list[str]) -> list[str] | ActivationStore:
    """The sources as `crosstime.train` takes them: a list of texts, or a store of activations."""
    from crosstime.activations.manifest import has_manifest

    if any(map(has_manifest, corpus)):
        from crosstime.activations.store import store_at

        if (store := store_at(corpus)) is not None:
            return store
    refuse_missing_text(*corpus)
    return corpus


def _held_out_documents(corpus: list[str], fraction: float) -> Iterator[str]:
    """The documents that training did not see."""
    from crosstime.suites.corpus import documents
    from crosstime.training.held_out_documents import held_out_documents

    return held_out_documents(documents(corpus)[0], fraction)
