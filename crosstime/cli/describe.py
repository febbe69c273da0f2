"""``crosstime describe RUN``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def describe(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder, such as runs/demo.")],
    features: Annotated[
        int | None, typer.Option("--features", "-n", help="Features drawn at random, beside the selected ones: 100.")
    ] = None,
    shown: Annotated[int | None, typer.Option("--shown", help="Most texts to describe a feature from: 6.")] = None,
    unseen: Annotated[
        int | None, typer.Option("--unseen", help="Most further texts of each kind to score a description by: 6.")
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Tokens of text to look for texts in: 65,536.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the draw of features and texts: 0.")] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of the model there.")] = None,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable with the API key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests at the same time.")] = 4,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of the replies; default: the endpoint's.")
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option("--prices", metavar="READ WRITTEN", help="What a million tokens cost, for the estimate."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write requests, show the estimate, and send nothing.")
    ] = False,
) -> None:
    """Have a language model describe features of a run and of its null models, and rate their complexity.

    Writes requests to RUN/descriptions. With --endpoint, they are sent, descriptions are scored by detection and
    fuzzing, and the report is written again with complexity against onset. Without it, send them with any tool, put the
    replies where this command says, and repeat it. Replies are kept: a command that was stopped sends only the rest.
    """
    from crosstime.cli.option_errors import errors_about
    from crosstime.errors import EndpointError, errors_at
    from crosstime.features.endpoint import Endpoint
    from crosstime.features.request_cost import TokenPrices
    from crosstime.runs.descriptions.options import FOLDER, DescribeOptions, recorded_options
    from crosstime.runs.status import status
    from user_input.home import expanded

    # Mistakes first
    if (endpoint is None) != (model is None):
        raise EndpointError("--endpoint and --model belong together: the address, and the name of the model there")
    options = {"features": features, "shown": shown, "unseen": unseen, "tokens": tokens, "seed": seed}
    changes = {name: value for name, value in options.items() if value is not None}
    words = {"address": "--endpoint", "model": "--model", "temperature": "--temperature"}
    with errors_about(words, "--endpoint"):
        # The values of options are checked also where there is nothing to send
        address, name = endpoint or "http://127.0.0.1/v1", "model" if model is None else model
        server = Endpoint(address, name, key_variable, concurrency=concurrency, temperature=temperature)
    with errors_at("--key-variable"):
        server.key()
    where = None if endpoint is None else server
    with errors_at("--prices"):
        million = None if prices is None else TokenPrices(*prices)
    with errors_about({name: f"--{name}" for name in options}):
        DescribeOptions(**changes)
    with errors_at("RUN"):
        status(expanded(folder))
        recorded_options(expanded(folder) / FOLDER, changes)

    from rich.console import Console

    from crosstime.cli.output import print_line
    from crosstime.cli.tables import description_table
    from crosstime.runs.descriptions.describe import describe as describe_run

    # Do what is possible
    progress = Console(stderr=True)
    result = describe_run(
        folder,
        changes,
        endpoint=where,
        prices=million,
        dry_run=dry_run,
        announce=lambda line: progress.print(f"[green]•[/] {line}", highlight=False, soft_wrap=True),
    )

    # Show the results, and what is next
    console = Console()
    if not result.sources.empty:
        console.print(description_table(result.sources))
        print_line(console, f"The tables: {result.folder}")
    for sentence in result.sentences:
        print_line(console, sentence)
    for requests, replies in result.waiting.items():
        print_line(console, f"next: send {requests}, replies in {replies}, and repeat this command")
