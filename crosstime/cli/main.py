"""Put the verbs together into one command line."""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from crosstime.cli import (
    ablate,
    accuracy,
    annotate,
    attribute,
    convert,
    demo,
    describe,
    evaluate,
    evolve,
    harvest,
    ngrams,
    null,
    recipes,
    report,
    run,
    select,
    serve,
    similarity,
    status,
    tasks,
    train,
)
from crosstime.cli.home import with_home
from crosstime.cli.option_errors import with_option_names
from crosstime.cli.verb_command import VerbCommand
from crosstime.machine.resource_errors import explain_resource_errors

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

app = typer.Typer(
    name="crosstime",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Help is text: markup would take the [brackets] of a recipe's table for a style
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# The list of verbs cuts what is longer than a line, so that each has a short sentence of its own
for name, verb, summary in (
    ("demo", demo.demo, "Run a small experiment that needs no data, in two minutes."),
    ("run", run.run, "Run a recipe, from checkpoints to a report."),
    ("null", null.null, "Repeat a run where there is nothing to find."),
    ("describe", describe.describe, "Have a language model describe the features of a run."),
    ("recipes", recipes.recipes, "List the recipes that come with crosstime."),
    ("status", status.status, "Show which stages of a run are done."),
    ("train", train.train, "Train one crosscoder for all checkpoints of a suite."),
    ("accuracy", accuracy.accuracy, "Measure the accuracy of each checkpoint on each task."),
    ("similarity", similarity.similarity, "Compare activations between all pairs of checkpoints."),
    ("ngrams", ngrams.ngrams, "Compare predictions with unigrams and bigrams of a text."),
    ("select", select.select, "Propose checkpoints to compare."),
    ("harvest", harvest.harvest, "Write the activations of checkpoints on a text to disk."),
    ("evaluate", evaluate.evaluate, "Measure what crosscoders explain."),
    ("attribute", attribute.attribute, "Find the features that cause the answers to tasks."),
    ("ablate", ablate.ablate, "Take features away, and measure what tasks lose."),
    ("evolve", evolve.evolve, "Follow the features of a crosscoder over training."),
    ("convert", convert.convert, "Convert a crosscoder between file formats."),
    ("report", report.report, "Draw the report of a run again, without a model."),
    ("annotate", annotate.annotate, "Write or check sheets that describe features."),
    ("serve", serve.serve, "Serve the report of a run on this machine."),
):
    app.command(name, cls=VerbCommand, short_help=summary)(with_option_names(with_home(verb)))
app.add_typer(tasks.app, name="tasks")


def _print_version(asked: bool) -> bool:
    """Print the version and end, for ``--version``."""
    if asked:
        print(f"crosstime {version('crosstime')}")
        raise typer.Exit
    return asked


@app.callback()
def crosstime(
    asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Causal experiments on language models across their pretraining."""


def main() -> None:
    """Run the command line; a mistake of the user's, or a full disk or memory, ends in one sentence and exit code 2."""
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        sys.stdout = _outliving_its_reader(sys.__stdout__)
    try:
        with explain_resource_errors("this command"):
            app(prog_name="crosstime")
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
