"""The reference of the command line, made from the commands themselves: ``python -m crosstime.cli.reference``."""

from __future__ import annotations

from typing import Any

import typer

HEAD = """# Command line

Made from the commands by `python -m crosstime.cli.reference`; a test holds it to them. `crosstime VERB --help` says the
same. Exit code 2 is a mistake of the caller's, said in one sentence on standard error.
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
    inner = getattr(command, "commands", None)
    if inner is None:
        return [_verb(path, command)]
    own = [_verb(path, command)] if path != "crosstime" else []
    return own + [text for name, each in inner.items() for text in _verbs(f"{path} {name}", each)]


def _verb(path: str, command: Any) -> str:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    places = [each for each in parameters if each.param_type_name == "argument"]
    usage = " ".join([path, *(_place(each) for each in places)])
    paragraphs = [" ".join(part.split()) for part in (command.help or "").strip().split("\n\n")]
    rows = [f"| `{_name(each)}` | {_meaning(each)} |" for each in parameters]
    table = ["| | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {path}", "", "```", usage, "```", "", "\n\n".join(paragraphs), "", *table])


def _place(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    more = "..." if parameter.nargs == -1 and not name.endswith("...") else ""
    return f"{name}{more}" if parameter.required else f"[{name}{more}]"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _place(parameter)
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(sorted(names, key=len))


def _meaning(parameter: Any) -> str:
    default = parameter.default
    shown = not (default is None or callable(default) or default is False or default == () or parameter.required)
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"{text} Default: `{default}`." if shown else text


if __name__ == "__main__":
    from crosstime.cli.main import app

    print(reference(app), end="")
