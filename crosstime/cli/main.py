"""Put the verbs together into one command line."""

from __future__ import annotations

import sys

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
    try:
        with explain_resource_errors("this command"):
            app()
    except ValueError as error:
        from crosstime.errors import USER_ERRORS

        if not isinstance(error, USER_ERRORS):
            raise
        print(f"crosstime: {error}", file=sys.stderr)
        sys.exit(2)
