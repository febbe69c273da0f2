"""How a verb shows its usage and help, and what it says about a value that it cannot take."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

from crosstime.errors import CrosstimeError

_TYPES = {"str": "text", "int": "integer", "float": "number", "Path": "path"}
"""Words for the types of Python."""


def placeholder(argument: Any) -> str:
    """What stands for an argument in the usage: brackets if it may be left out, dots if there may be several.

    Args:
        argument: of a command; typer's classes of parameters have no public names.
    """
    name = argument.metavar or argument.name.upper()
    more = "..." if argument.nargs == -1 else ""
    return f"{name}{more}" if argument.required else f"[{name}{more}]"


class VerbCommand(TyperCommand):
    """A verb whose usage names arguments as its help and errors do: ``crosstime accuracy [OPTIONS] SUITE TASK...``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The placeholders of the usage."""
        arguments = [parameter for parameter in self.get_params(ctx) if parameter.param_type_name == "argument"]
        return ["[OPTIONS]", *map(placeholder, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the lists of arguments and of options."""
        lists: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                is_argument = parameter.param_type_name == "argument"
                name = placeholder(parameter) if is_argument else _with_plain_type(record[0])
                lists[parameter.param_type_name].append((name, record[1]))
        for title, records in lists.items():
            if records:
                with formatter.section(f"{title.title()}s"):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            CrosstimeError: a value cannot be taken; the sentence names the option or argument, the value, and what is
                allowed.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            # What is missing has no value, and is explained with the usage
            if type(error) is not typer.BadParameter or error.param is None:
                raise
            parameter: Any = error.param
            is_argument = parameter.param_type_name == "argument"
            place = parameter.metavar or parameter.name.upper() if is_argument else max(parameter.opts, key=len)
            values, *_ = self.make_parser(ctx).parse_args(words)
            allowed = f"{error.message[:1].lower()}{error.message[1:]}".rstrip(".")
            raise CrosstimeError(f"{place}: {_typed(values.get(parameter.name))} is not allowed: {allowed}") from error


def _typed(value: object) -> str:
    """A value, or several, as they were typed."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _with_plain_type(name: str) -> str:
    """The names of an option and the type of its values, without what only Python has: ``<list[str]>``.

    Examples:
        >>> _with_plain_type("--force <list[str]>")
        '--force <text>'
        >>> _with_plain_type("--seed <int range>")
        '--seed <integer>'
    """
    return re.sub(
        r"<(?:list\[)?(\w+)(?: range)?\]?>", lambda match: f"<{_TYPES.get(match.group(1), match.group(1))}>", name
    )
