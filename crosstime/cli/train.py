"""``crosstime train SUITE --corpus TEXT``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosstime.cli.options import DEVICE, DTYPE, MAX_TOKENS, REVISIONS, SUITE

if TYPE_CHECKING:
    from crosstime.runs.recipe.crosscoder import CrosscoderRecipe

STATE = "training.safetensors"


def train(
    suite: Annotated[str, SUITE],
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
    site: Annotated[str, typer.Option("--site", "-s", help="Where, such as resid.3, attn.0, mlp.-1.")] = "resid.-1",
    kind: Annotated[str, typer.Option("--kind", "-k", help="l1, topk, batchtopk or jumprelu.")] = "l1",
    features: Annotated[int | None, typer.Option("--features", "-f", help="Size of the dictionary.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Tokens of one step.")] = None,
    rate: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another key of a recipe's [crosscoder], such as --set k=32; may be repeated."),
    ] = None,
    length: Annotated[int, typer.Option("--length", help="Tokens of a sequence.")] = 64,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Share of the documents kept from training, to evaluate on.")
    ] = 0.02,
    evaluated: Annotated[int, typer.Option("--evaluate", help="Sequences to evaluate on; 0: none.")] = 256,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crosscoder and its tables.")] = Path(
        "crosscoder"
    ),
    revisions: Annotated[str | None, REVISIONS] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the initialisation and of the order of the text.")] = 124,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str, DTYPE] = "float32",
    max_tokens: Annotated[int | None, MAX_TOKENS] = None,
) -> None:
    """Train one crosscoder for all checkpoints of a suite, and print how good it is on text it did not see.

    Writes crosscoder.safetensors, training.csv, metrics.jsonl and evaluation.csv to OUT. A training that was stopped
    goes on where it was when the same command is given again. What has no option of its own has the default of the
    kind: for CTT's kinds those of the paper, with 16,384 features and 100,000 steps of 4,096 tokens.

    The checkpoints run here. Activations of those on a server come through crosstime harvest --remote.

    On several GPUs or machines: torchrun --no-python --nproc-per-node 8 crosstime train ...
    """
    from dataclasses import replace

    from rich.console import Console

    from crosstime.cli.options import compute_for, open_suite
    from crosstime.cli.tables import evaluation_table
    from crosstime.crosscoders.evaluate import evaluate
    from crosstime.machine.processes import join_processes
    from crosstime.machine.storage import write_table
    from crosstime.suites.corpus import TextSample
    from crosstime.training.train import train as fit
    from interventions import Site

    given = {"n_features": features, "steps": steps, "batch_size": batch, "lr": rate}
    recipe = _recipe(kind, {name: value for name, value in given.items() if value is not None}, settings or [], seed)
    opened, compute = open_suite(suite, revisions), compute_for(device, dtype, max_tokens)
    text = _text(corpus)
    stored = not isinstance(text, list)
    data = recipe.data_config(sequence_length=length, seed=seed)
    trained = fit(
        opened,
        Site.parse(site),
        text,
        recipe.config(),
        data=replace(data, validation=0.0 if stored else held_out),
        precision=recipe.precision,
        checkpointing=recipe.checkpointing(out / STATE),
        logging=recipe.logging(out),
        compute=compute,
    )
    if not join_processes(compute.torch_device).first:
        return
    trained.crosscoder.save(out / "crosscoder.safetensors")
    write_table(out / "training.csv", trained.log)
    (out / STATE).unlink(missing_ok=True)
    paths = [out / "crosscoder.safetensors", out / "training.csv", out / "metrics.jsonl"]
    console = Console()
    console.print(
        f"{recipe.config().summary()}, {recipe.n_features:,} features, {trained.tokens:,} tokens", highlight=False
    )
    if evaluated and held_out and not stored:
        table = evaluate(
            opened,
            trained.crosscoder,
            _held_out(text, held_out),
            sample=TextSample(evaluated, length),
            compute=compute,
        )
        write_table(out / "evaluation.csv", table)
        paths.append(out / "evaluation.csv")
        console.print(evaluation_table(table))
    console.print(f"wrote {', '.join(map(str, paths))}", highlight=False, markup=False, soft_wrap=True)


def _recipe(kind: str, given: dict[str, Any], settings: list[str], seed: int) -> CrosscoderRecipe:
    from crosstime.runs.recipe.build import crosscoder_table

    return crosscoder_table({"kind": kind, "seed": seed, **given}, settings)


def _text(corpus: list[str]) -> Any:
    """The sources as `crosstime.train` takes them: a list of texts, or one store of activations."""
    from crosstime.activations.store import store_at
    from crosstime.suites.read_lines import read_lines

    if (store := store_at(corpus)) is not None:
        return store
    read_lines(corpus)  # names what cannot be read, where a list of strings could also be the text itself
    return corpus


def _held_out(text: list[str], share: float) -> Any:
    from crosstime.suites.corpus import documents
    from crosstime.training.held_out import held_out

    return held_out(documents(text)[0], share)
