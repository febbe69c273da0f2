"""README and docs/cli.md list every command, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from crosstime.cli.main import app
from crosstime.runs.stages.names import NAMES

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_every_command_is_listed_and_every_listed_command_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    # Fences alternate between the start and the end of a block
    blocks = re.split(r"^```.*$", text, flags=re.MULTILINE)[1::2]
    listed = {name for block in blocks for name in re.findall(r"^crosstime ([a-z][a-z-]*)", block, re.MULTILINE)}
    assert listed == COMMANDS


def test_the_help_lists_the_same_commands():
    assert {"demo", "null", "report", "annotate"} <= COMMANDS
    assert not any(command.hidden for command in typer.main.get_command(app).commands.values())


def test_the_help_of_run_lists_every_stage():
    text = typer.main.get_command(app).commands["run"].help
    listed = re.search(r"Stages \(([^)]*)\)", " ".join(text.split()))
    assert listed is not None
    assert tuple(listed[1].split(", ")) == NAMES
