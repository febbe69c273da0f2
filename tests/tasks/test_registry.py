"""Families of tasks: built-ins come through entry points, broken plug-ins are named and left out."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import tasks
from tasks import EmptyTaskError, MinimalPair, Task, TaskError, UnknownTaskError, registry

BUILT_IN = ("agreement", "blimp", "clams", "ctt", "induction", "ioi", "multiblimp", "pairs")


class Colours:
    name = "colours"
    pattern = "colours/<anything>"
    description = "one pair about the sky"
    source = "by hand"
    languages = ("en",)
    has_patch = False
    path_help = "not used"

    def load(self, rest, path):
        pairs = () if rest == "none" else (MinimalPair("the sky is blue", "the sky is green"),) * 5
        return Task(f"colours/{rest}", "en", "by hand", pairs, {"grey": 2})


class Nameless:
    name = "nameless"


def broken():
    raise RuntimeError("no paint")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def offer(monkeypatch):
    """Make entry points appear as if packages offered them."""

    def offer(**targets: str) -> None:
        entries = [EntryPoint(name, target, registry.GROUP) for name, target in targets.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: entries)

    return offer


def test_pyproject_offers_every_built_in_family():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    offered = project["project"]["entry-points"][registry.GROUP]
    assert set(offered) == set(BUILT_IN)
    for name, target in offered.items():
        assert EntryPoint(name, target, registry.GROUP).load().name == name


def test_every_built_in_is_installed_and_describes_itself():
    described = {family.name: family for family in tasks.describe()}
    assert set(BUILT_IN) <= set(described) <= set(tasks.names())
    for name in BUILT_IN:
        assert described[name].pattern.startswith(f"{name}/")
        assert described[name].description
        assert described[name].path_help
    assert len([name for names in described["blimp"].variants.values() for name in names]) == 67
    assert {name for name in BUILT_IN if described[name].has_patch} == {"agreement", "induction", "ioi", "pairs"}


def test_a_registered_family_loads_and_is_sampled():
    tasks.register(Colours())
    assert "colours" in tasks.names()
    task = tasks.load("colours/sky/blue", limit=2)
    assert (task.name, len(task)) == ("colours/sky/blue", 2)


def test_a_taken_name_is_refused_unless_replaced():
    tasks.register(Colours())
    with pytest.raises(TaskError, match="'colours' exists already"):
        tasks.register(Colours())
    tasks.register(Colours(), replace=True)


def test_a_built_in_can_be_replaced(offer):
    offer(colours="tasks.agreement:Agreement")
    with pytest.raises(TaskError, match="exists already"):
        tasks.register(Colours())
    tasks.register(Colours(), replace=True)
    assert len(tasks.load("colours/x")) == 5


def test_a_family_that_lacks_something_is_refused_by_name():
    with pytest.raises(TaskError, match="Nameless has no pattern, description"):
        tasks.register(Nameless())


def test_a_family_name_with_a_slash_is_refused():
    family = Colours()
    family.name = "col/ours"
    with pytest.raises(TaskError, match="without a slash"):
        tasks.register(family)


def test_plug_ins_are_found_by_entry_point(offer):
    offer(colours=f"{__name__}:Colours")
    assert tasks.names() == ("colours",)
    assert len(tasks.load("colours/sky")) == 5


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no_such_package.here:Family", "ModuleNotFoundError"),
        (f"{__name__}:broken", "RuntimeError: no paint"),
        (f"{__name__}:Nameless", "Nameless has no pattern"),
        (f"{__name__}:Colours", "its name is 'colours'"),
    ],
)
def test_a_broken_plug_in_is_named_in_a_warning_and_the_others_stay(offer, target, why):
    offer(bad=target, colours=f"{__name__}:Colours")
    with pytest.warns(RuntimeWarning, match=f"'bad'.*{why}"):
        assert [family.name for family in tasks.describe()] == ["colours"]
    assert len(tasks.load("colours/sky")) == 5
    with pytest.raises(UnknownTaskError, match=f"'bad'.*{why}"):
        tasks.load("bad/sky")


def test_of_two_plug_ins_with_one_name_our_own_comes_first(monkeypatch):
    entries = [
        EntryPoint("agreement", f"{__name__}:Colours", registry.GROUP),
        EntryPoint("agreement", "tasks.agreement:Agreement", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    assert tasks.load("agreement/simple", limit=1).name == "agreement/simple"


def test_an_unknown_family_names_the_nearest_one():
    with pytest.raises(UnknownTaskError, match=r"'blimb'.*did you mean 'blimp'"):
        tasks.load("blimb/wh_island")


def test_an_install_without_plug_ins_says_so(offer):
    offer()
    with pytest.raises(UnknownTaskError, match="install the package again"):
        tasks.load("blimp/wh_island")


@pytest.mark.parametrize("name", ["blimp", "blimp/"])
def test_a_family_alone_is_no_task(name):
    with pytest.raises(UnknownTaskError, match="blimp/<paradigm>"):
        tasks.load(name)


def test_a_source_without_pairs_names_the_reasons():
    tasks.register(Colours())
    with pytest.raises(EmptyTaskError, match=r"colours/none.*2 grey"):
        tasks.load("colours/none")


def test_the_package_imports_without_the_heavy_ones():
    code = (
        "import sys, tasks; tasks.load('agreement/simple', limit=3);"
        "print([m for m in ('torch', 'datasets', 'transformers', 'pandas', 'interventions', 'crosstime')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_says_whose_it_is():
    assert tasks.__project__ == "crosstime"
