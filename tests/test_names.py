"""Names are nouns of the thing: no variable, argument or function is a pronoun or participle that could be anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORDS = {"each", "found", "given", "it", "kept", "one", "said", "seen", "some", "this", "written"}
PUBLIC = {
    ("crosstime/features/request_cost.py", "written"),
    ("crosstime/suites/compute.py", "each"),
    ("crosstime/suites/resident_checkpoints.py", "each"),
    ("interventions/circuit.py", "kept"),
}
"""Attributes and methods of public classes, by their files."""
FOLDERS = ("benchmarks", "crosstime", "interventions", "tasks", "tests", "user_input")
SCRIPTS = sorted((ROOT / "crosstime").rglob("*.js"))
JAVASCRIPT = r"\b(?:const|let|var|function)\s+(\w+)|\b(\w+)\s*=>|\(\s*(\w+)\s*(?:,\s*(\w+)\s*)?\)\s*=>"
"""A name that is declared, and the names of up to two arguments of an arrow function."""


def bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is given a name: variables, arguments, functions, classes, imports, errors."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def is_vague(name: str) -> bool:
    return name.strip("_").lower() in WORDS


@pytest.mark.parametrize("folder", [name for name in FOLDERS if (ROOT / name).is_dir()])
def test_names_in_python_are_nouns(folder: str):
    vague = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in bound(ast.parse(path.read_text(encoding="utf-8")))
        if is_vague(name) and (path.relative_to(ROOT).as_posix(), name) not in PUBLIC
    ]
    assert not vague


def test_names_in_javascript_are_nouns():
    assert SCRIPTS
    vague = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SCRIPTS
        for names in re.findall(JAVASCRIPT, path.read_text(encoding="utf-8"))
        for name in names
        if is_vague(name)
    ]
    assert not vague


@pytest.mark.parametrize(
    "source",
    [
        "found = 1", "for each in x: pass", "def said(): pass", "def f(given): pass", "lambda *some: 1",
        "[it for it in x]",
        "with x as kept: pass", "import a as one", "try: pass\nexcept E as seen: pass", "class Written: pass",
        "self._kept = 1", "if (this := 1): pass", "a, (b, one) = x",
    ],
)  # fmt: skip
def test_every_way_to_name_something_is_noticed(source: str):
    assert any(is_vague(name) for _, name in bound(ast.parse(source)))


@pytest.mark.parametrize("source", ["const found = 1", "rows.map((one, two) => one)", "x.filter(each => each)"])
def test_names_of_javascript_are_noticed(source: str):
    assert any(is_vague(name) for names in re.findall(JAVASCRIPT, source) for name in names)
