"""Which package and which room imports which, read from the source; imports inside functions and for types count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("user_input", "tasks", "interventions", "crosstime")
BELOW = {
    "user_input": set(),
    "tasks": {"user_input"},
    "interventions": {"user_input"},
    "crosstime": {"user_input", "tasks", "interventions"},
}
"""What a package may import beside itself."""

FACE = ("__init__", "__main__", "namespaces")
"""Modules on top of crosstime that put the rooms together."""
ORDER = (
    ("cli",),
    ("runs",),
    ("evolution",),
    ("features",),
    ("effects", "training"),
    ("crosscoders", "activations"),
    ("suites",),
    ("display",),
    ("report",),
    ("machine",),
    ("errors",),
)
"""The rooms of crosstime from top to bottom. Imports go down only; rooms of one row do not import each other."""
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
NAMESPACES = ("crosstime.crosscoders.exchange",)
"""Rooms that are used as a namespace and therefore list their verbs in their ``__init__``."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for package in PACKAGES for path in sources(package)}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also of those in functions and those made from a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def module_of(name: str) -> str | None:
    """The module of ours that an import loads; None where it is not ours."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def dependencies(module: str) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ours."""
    for line, name in imported(ast.parse(MODULES[module].read_text())):
        target = module_of(name)
        if target is not None and target != module:
            yield line, target


def room(module: str) -> str:
    """The room of crosstime in which a module lies."""
    return module.split(".")[1] if "." in module else "__init__"


def traced(tree: ast.AST) -> Iterator[int]:
    """Lines that enter an nnsight trace, or reach for the nnsight model of a `Model`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (
            node.attr in ("nnsight", "invoke")
            or (node.attr == "trace" and not (isinstance(node.value, ast.Name) and node.value.id == "torch"))
        ):
            yield node.lineno


def traces_in(package: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}" for path in sources(package) for line in traced(ast.parse(path.read_text()))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package: str):
    assert sources(package), f"{package}/ has no source files"
    allowed = BELOW[package] | {package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(package)
        for line, name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in set(PACKAGES) - allowed
    ]
    assert not wrong


def test_every_module_of_crosstime_lies_in_a_room():
    rooms = {room(module) for module in MODULES if module.startswith("crosstime.")}
    assert rooms == set(FLOOR) | set(FACE) - {"__init__"}


def test_imports_between_rooms_go_down():
    wrong = [
        f"{module}:{line} imports {target}"
        for module in MODULES
        if module.startswith("crosstime.") and room(module) not in FACE
        for line, target in dependencies(module)
        if target.startswith("crosstime")
        and room(target) != room(module)
        and (room(target) in FACE or FLOOR[room(target)] <= FLOOR[room(module)])
    ]
    assert not wrong


def test_the_page_draws_on_the_charts_and_not_the_other_way_round():
    wrong = [
        f"{module}:{line} imports {target}"
        for module in MODULES
        if module.startswith("crosstime.report.") and not module.startswith("crosstime.report.page")
        for line, target in dependencies(module)
        if target.startswith("crosstime.report.page")
        or (target.startswith("crosstime.report.charts") and not module.startswith("crosstime.report.charts"))
    ]
    assert not wrong


def test_no_module_imports_itself_through_others():
    arrows = {module: {target for _, target in dependencies(module)} for module in MODULES}
    state: dict[str, bool] = {}  # False while its imports are followed, True when they are done

    def circle(module: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if state.get(module):
            return ()
        if module in path:
            return (*path[path.index(module) :], module)
        for target in sorted(arrows[module]):
            if closed := circle(target, (*path, module)):
                return closed
        state[module] = True
        return ()

    assert [closed for module in MODULES if (closed := circle(module, ()))] == []


def test_the_init_of_a_room_is_a_docstring():
    for module, path in MODULES.items():
        if module.startswith("crosstime.") and path.name == "__init__.py" and module not in NAMESPACES:
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{module} does not say what it is for"
            assert len(tree.body) == 1, f"{module} holds more than its docstring"


@pytest.mark.parametrize("package", ["user_input", "tasks", "crosstime"])
def test_only_interventions_enters_a_trace(package: str):
    assert traces_in(package) == []
    assert not [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(package)
        for line, name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] == "nnsight"
    ]


def test_the_search_for_traces_finds_those_of_interventions():
    assert {finding.split(":")[0] for finding in traces_in("interventions")} >= {"interventions/forward.py"}
    names = {name for path in sources("interventions") for _, name in imported(ast.parse(path.read_text()))}
    assert "nnsight" in {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import crosstime.suites.suite", "crosstime.suites.suite"),
        ("def f():\n    from crosstime.suites import suite", "crosstime.suites.suite"),
        ("def f():\n    from crosstime.suites.suite import Suite", "crosstime.suites.suite"),
        ("if TYPE_CHECKING:\n    import os, crosstime.errors", "crosstime.errors"),
        ("import importlib\nimportlib.import_module('crosstime.errors')", "crosstime.errors"),
    ],
)
def test_every_way_to_import_is_seen(source: str, module: str):
    assert module in {module_of(name) for _, name in imported(ast.parse(source))}


def test_no_module_is_a_bag_of_anything():
    names = {part for module in MODULES for part in module.split(".")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
