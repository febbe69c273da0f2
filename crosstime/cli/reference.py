"""The reference of the command line, generated from the commands: ``python -m crosstime.cli.reference``."""

from __future__ import annotations

from typing import Any

import typer

from crosstime.cli.verb_command import placeholder

HEAD = """# Command line

Generated from the commands by `python -m crosstime.cli.reference`; a test compares it with them. `crosstime VERB
--help` (or `-h`) shows the same, and `crosstime --version` the version. Exit code 2 is a mistake of the caller's,
explained in one sentence on standard error.
"""


def reference(app: typer.Typer) -> str:
    """Every verb with its arguments and options, as Markdown.

    Examples:
        >>> from crosstime.cli.main import app
        >>> reference(app).startswith("# Command line")
        True
    """
    return "\n".join([HEAD, *_verbs("crosstime", typer.main.get_command(app))]).rstrip() + "\n"


def _verbs(path: str, command: Any) -> list[str]:
    """The sections of a command and of its sub-commands; typer's classes of commands have no public names."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        return [_verb(path, command)]
    section = [_verb(path, command)] if path != "crosstime" else []
    return section + [text for name, verb in subcommands.items() for text in _verbs(f"{path} {name}", verb)]


def _verb(path: str, command: Any) -> str:
    """The section of one command: usage, help, and a table of its parameters."""
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    usage = " ".join([path, *(placeholder(argument) for argument in arguments)])
    paragraphs = [" ".join(paragraph.split()) for paragraph in (command.help or "").strip().split("\n\n")]
    rows = [f"| `{_name(parameter)}` | {_meaning(parameter)} |" for parameter in parameters]
    table = ["| | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {path}", "", "```", usage, "```", "", "\n\n".join(paragraphs), "", *table])


def _name(parameter: Any) -> str:
    """An argument's placeholder, or an option's names, short ones first."""
    if parameter.param_type_name == "argument":
        return placeholder(parameter)
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(sorted(names, key=len))


def _meaning(parameter: Any) -> str:
    """The help of a parameter and its default."""
    default = parameter.default
    shown = not (default is None or callable(default) or default is False or default == () or parameter.required)
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"{text} Default: `{default}`." if shown else text


if __name__ == "__main__":
    from crosstime.cli.main import app

    print(reference(app), end="")
