"""The examples of docstrings give what they say, and public functions have the sections that a reader looks for."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import FunctionType

import pytest

import crosstime
import interventions
import tasks
import user_input

PACKAGES = (crosstime, interventions, tasks, user_input)
MODULES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
PUBLIC = {
    f"{namespace.__name__}.{name}": value
    for namespace in (crosstime, interventions)
    for name in namespace.__all__
    if isinstance(value := getattr(namespace, name), FunctionType)
}
WITHOUT_RESULT = {"crosstime.show_progress"}
"""Functions whose result is a context manager, which their description explains."""


@pytest.mark.parametrize("room", sorted({".".join(name.split(".")[:2]) for name in MODULES}))
def test_examples_give_what_they_say(room: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        if name == room or name.startswith(f"{room}."):
            for example in finder.find(importlib.import_module(name), name):
                runner.run(example)
    assert not runner.failures, capsys.readouterr().out


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_describes_its_arguments_result_and_use(name: str):
    function = PUBLIC[name]
    text = inspect.getdoc(function) or ""
    first, *_ = text.split("\n\n")
    assert first.endswith("."), f"{name}: the first sentence stands alone"
    assert "\n" not in first, f"{name}: the first sentence fits a line"
    assert "Examples:" in text
    arguments = ast.parse(inspect.getsource(function)).body[0].args
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^    ([\w, ]+):", text, re.M))))
    missing = {argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]} - described
    assert not missing, f"{name} does not describe {sorted(missing)}"
    if function.__annotations__.get("return") not in (None, "None") and name not in WITHOUT_RESULT:
        assert "Returns:" in text, f"{name} does not say what it returns"
