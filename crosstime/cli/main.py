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
from crosstime.cli.home import with_home
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
app.command("demo")(with_home(demo.demo))
app.command("run")(with_home(run.run))
app.command("recipes")(with_home(recipes.recipes))
app.command("status")(with_home(status.status))
app.command("train")(with_home(train.train))
app.command("accuracy")(with_home(accuracy.accuracy))
app.command("similarity")(with_home(similarity.similarity))
app.command("ngrams")(with_home(ngrams.ngrams))
app.command("select")(with_home(select.select))
app.command("harvest")(with_home(harvest.harvest))
app.command("evaluate")(with_home(evaluate.evaluate))
app.command("evolve")(with_home(evolve.evolve))
app.command("convert")(with_home(convert.convert))
app.command("serve")(with_home(serve.serve))
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
