"""``crosstime tasks`` and ``crosstime tasks show NAME``"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(help="List the tasks that are installed, or show one.", invoke_without_command=True)


def tasks(context: Any) -> None:
    """List the families of tasks that are installed: the form of their names, where their data come from."""
    if context.invoked_subcommand is not None:
        return
    import warnings

    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from tasks import describe

    console = Console()
    with warnings.catch_warnings(record=True) as broken:
        warnings.simplefilter("always")
        families = describe()
    for family in families:
        console.print(Text.assemble((family.pattern, "bold"), "  ", family.description))
        facts = Table.grid(padding=(0, 2))
        for label, fact in (
            ("data", family.source),
            ("path", family.path_help),
            ("languages", ", ".join(family.languages)),
            ("pairs", str(getattr(family, "pairs", "as the data have"))),
            ("patch prompts", "yes" if family.has_patch else "no"),
            *((kind, ", ".join(names)) for kind, names in getattr(family, "variants", {}).items()),
        ):
            facts.add_row(Text(label, style="dim"), Text(fact))
        console.print(Padding(facts, (0, 0, 1, 2)))
    for problem in broken:
        print(f"crosstime: {problem.message}", file=sys.stderr)


# typer knows the parameter by this annotation, but hands over an object of another class.
tasks.__annotations__["context"] = typer.Context
app.callback()(tasks)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A task, such as blimp/wh_island.")],
    count: Annotated[int, typer.Option("-n", help="How many pairs.")] = 5,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", "-t", help="A suite, a checkpoint or a Hub repository: show tokens.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--path", "-p", help="Where the data are; else the Hub.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
) -> None:
    """Show pairs of a task: with a tokenizer, in tokens, the answer tokens in «» and each pair's patch prompt."""
    from rich.console import Console
    from rich.text import Text

    from tasks import load

    console = Console()
    task = load(name, path)
    console.print(Text(f"{task.name}: {len(task):,} pairs, {task.language}, from {task.source}"), soft_wrap=True)
    if tokenizer is None or not task.shared_prefix:
        for pair in task.sample(count, seed).pairs:
            console.print(Text(f"\n+ {pair.right}\n- {pair.wrong}"), soft_wrap=True)
        if not task.shared_prefix:
            console.print("\nThe sentences share no prompt: this task is scored by whole sentences.")
        return
    loaded = load_tokenizer(tokenizer)
    tokenized = task.tokenize(loaded, limit=count, seed=seed)
    for index, pair in enumerate(tokenized.pairs):
        prompt = tokenized.prompts[index]
        lines = [Text(), marked("+ ", loaded, pair.right, len(prompt)), marked("- ", loaded, pair.wrong, len(prompt))]
        if pair.patch_right is not None and tokenized.patch is not None:
            lines.append(marked("patch ", loaded, pair.patch_right, len(tokenized.patch[index])))
        for line in lines:
            console.print(line, soft_wrap=True)
    console.print(Text(f"\n{task.tokenize(loaded).summary()}"), soft_wrap=True)


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a suite, of one checkpoint's folder, or of a Hub repository.

    Raises:
        SuiteError: there is none.
    """
    from crosstime.suites.suite import Suite

    folder = Path(source).expanduser()
    if folder.is_dir() and (folder / "config.json").is_file():
        return Suite.open(folder.resolve().parent, [folder.resolve().name]).tokenizer
    return Suite.open(source, None if folder.is_dir() else ["main"]).tokenizer


def marked(lead: str, tokenizer: Any, sentence: str, answer: int) -> Text:
    """A sentence in tokens, parted by bars, blanks as dots, with the answer token in «».

    A token that is a part of a character is shown by its id.
    """
    from rich.text import Text

    ids: Sequence[int] = tokenizer(sentence, verbose=False)["input_ids"]
    line = Text(lead, style="dim")
    for place, token in enumerate(ids):
        piece = tokenizer.decode([token]).replace(" ", "·")
        if "\N{REPLACEMENT CHARACTER}" in piece:
            piece = f"<{token}>"
        line.append("|" if place else "", style="dim")
        line.append(f"«{piece}»" if place == answer else piece, style="bold" if place == answer else "default")
    return line
