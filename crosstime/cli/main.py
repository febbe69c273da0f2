"""Put the verbs together into one command line."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

import typer

from crosstime.cli import (
    accuracy,
    convert,
    demo,
    evaluate,
    evolve,
    harvest,
    ngrams,
    recipes,
    run,
    select,
    serve,
    similarity,
    status,
    tasks,
    train,
)
from crosstime.machine.resource_errors import explain_resource_errors

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

app = typer.Typer(
    name="crosstime",
    help="Causal experiments on language models across their pretraining.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("recipes")(recipes.recipes)
app.command("status")(status.status)
app.command("train")(train.train)
app.command("accuracy")(accuracy.accuracy)
app.command("similarity")(similarity.similarity)
app.command("ngrams")(ngrams.ngrams)
app.command("select")(select.select)
app.command("harvest")(harvest.harvest)
app.command("evaluate")(evaluate.evaluate)
app.command("evolve")(evolve.evolve)
app.command("convert")(convert.convert)
app.command("serve")(serve.serve)
app.add_typer(tasks.app, name="tasks")


def main() -> None:
    """Run the command line; a mistake of the user's, or a full disk or memory, ends in one sentence and exit code 2."""
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        sys.stdout = _outliving_its_reader(sys.__stdout__)
    try:
        with explain_resource_errors("this command"):
            app()
    except ValueError as error:
        from crosstime.errors import USER_ERRORS

        if not isinstance(error, USER_ERRORS):
            raise
        print(f"crosstime: {error}", file=sys.stderr)
        sys.exit(2)


class _OptionalReader(io.FileIO):
    """A pipe whose reader may stop reading, as ``head`` does: the rest of the output is discarded."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes


def _outliving_its_reader(stdout: TextIO) -> TextIO:
    """The same output, which discards what nobody reads any more, so that a verb finishes its work."""
    pipe = io.BufferedWriter(_OptionalReader(stdout.fileno(), "w", closefd=False))
    return io.TextIOWrapper(pipe, stdout.encoding, stdout.errors, line_buffering=stdout.isatty())
