"""``crosstime tasks`` and ``crosstime tasks show NAME``"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosstime.cli.verb_command import VerbCommand
from user_input.home import expanded

_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"

if TYPE_CHECKING:
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

    from tasks import TaskFamily

app = typer.Typer(
    help="List the tasks that are installed, or show one.", invoke_without_command=True, rich_markup_mode=None
)


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

    # Load the families; one that is broken gives a warning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        families = describe()

    # Print each family with its facts
    console = Console()
    for family in families:
        console.print(Text.assemble((family.pattern, "bold"), "  ", family.description))
        facts = Table.grid(padding=(0, 2))
        for label, fact in _facts(family):
            facts.add_row(Text(label, style="dim"), Text(fact))
        console.print(Padding(facts, (0, 0, 1, 2)))
    for warning in caught:
        print(f"crosstime: {warning.message}", file=sys.stderr)


# Typer recognizes the parameter by this annotation, but passes an object of another class.
tasks.__annotations__["context"] = typer.Context
app.callback()(tasks)


@app.command(cls=VerbCommand, short_help="Show pairs of a task, as text or in tokens.")
def show(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A task, such as blimp/wh_island.")],
    count: Annotated[int, typer.Option("-n", min=1, help="Number of pairs.")] = 5,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", "-t", help="A suite, a checkpoint or a Hub repository: show tokens.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--path", "-p", help="Where the data are; default: the Hub.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sample.")] = 0,
) -> None:
    """Show pairs of a task: with a tokenizer, in tokens, the answer tokens in «» and each pair's patch prompt."""
    from rich.console import Console
    from rich.text import Text

    from crosstime.errors import errors_at
    from tasks import load
    from tasks.files import must_exist

    console = Console()
    with errors_at("--path"):
        if path is not None:
            must_exist(path)
    with errors_at("TASK"):
        task = load(name, path)
    loaded = None
    if tokenizer is not None and task.shared_prefix:
        with errors_at("--tokenizer"):
            loaded = load_tokenizer(tokenizer)
    console.print(Text(f"{task.name}: {len(task):,} pairs, {task.language}, from {task.source}"), soft_wrap=True)

    # Whole sentences
    if loaded is None:
        for pair in task.sample(count, seed).pairs:
            console.print(Text(f"\n+ {pair.right}\n- {pair.wrong}"), soft_wrap=True)
        if not task.shared_prefix:
            console.print("\nThe sentences share no prompt: this task is scored by whole sentences.")
        return

    # Tokens, with the answers marked
    tokenized = task.tokenize(loaded, limit=count, seed=seed)
    in_parts = False
    for index, pair in enumerate(tokenized.pairs):
        answer = len(tokenized.prompts[index])
        lines = [Text(), mark_answer("+ ", loaded, pair.right, answer), mark_answer("- ", loaded, pair.wrong, answer)]
        if pair.patch_right is not None and tokenized.patch is not None:
            lines.append(mark_answer("patch ", loaded, pair.patch_right, len(tokenized.patch[index])))
        for line in lines:
            console.print(line, soft_wrap=True)
            in_parts |= any(digit in line.plain for digit in _SUBSCRIPTS)
    if in_parts:
        console.print("\nₙ: characters of n tokens; «»ₖ/ₙ: the answer is token k of these n", style="dim")
    console.print(Text(f"\n{task.tokenize(loaded).summary()}"), soft_wrap=True)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a suite, of a checkpoint's folder, or of a Hub repository.

    Raises:
        SuiteError: there is none.
    """
    from crosstime.cli.options import named_places
    from crosstime.suites.suite import Suite

    if (models := named_places(source)) is not None:
        return Suite.of(models).tokenizer
    folder = expanded(source)
    if folder.is_dir() and (folder / "config.json").is_file():
        return Suite.open(folder.resolve().parent, [folder.resolve().name]).tokenizer
    return Suite.open(source, None if folder.is_dir() else ["main"]).tokenizer


def mark_answer(lead: str, tokenizer: PreTrainedTokenizerBase, sentence: str, answer: int) -> Text:
    """A sentence in tokens, separated by bars, with dots for spaces and the answer token in «».

    Tokens that are parts of a character are shown as the characters that they make together, with their number as a
    subscript; in the answer, also which of them is the answer token.

    Args:
        lead: text in front of it.
        tokenizer: the tokenizer.
        sentence: the sentence.
        answer: index of the answer token.
    """
    from rich.text import Text

    from crosstime.suites.token_text import readable_parts

    ids: list[int] = tokenizer(sentence, verbose=False)["input_ids"]
    line = Text(lead, style="dim")
    for start, part, n_tokens in readable_parts(tokenizer, ids):
        text = part.replace(" ", "·")
        line.append("|" if start else "", style="dim")
        marked = start <= answer < start + n_tokens
        line.append(f"«{text}»" if marked else text, style="bold" if marked else "default")
        if n_tokens > 1:
            place = f"{answer - start + 1}/{n_tokens}" if marked else str(n_tokens)
            line.append(place.translate(str.maketrans("0123456789", _SUBSCRIPTS)), style="dim")
    return line


def _facts(family: TaskFamily) -> Iterator[tuple[str, str]]:
    """Facts about a family of tasks, each with its label."""
    yield "data", family.source
    yield "path", family.path_help
    yield "languages", ", ".join(family.languages)
    yield "pairs", str(getattr(family, "pairs", "as the data have"))
    yield "patch prompts", "yes" if family.has_patch else "no"
    for kind, names in getattr(family, "variants", {}).items():
        yield kind, ", ".join(names)
