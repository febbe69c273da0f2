"""CONTRIBUTING, CHANGELOG, CITATION and the figure of the rooms agree with the project."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = sorted(path.parent.name for path in (ROOT / "crosstime").glob("*/__init__.py"))


def test_the_citation_is_that_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.startswith("# Changelog\n")
    assert "\n## [Unreleased]\n" in changelog
    assert PROJECT["version"] in changelog


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w./]+/[\w./]*|[\w.]+\.\w+)`", CONTRIBUTING))))
def test_files_that_contributing_names_exist(name: str):
    if "NAME" not in name and not name.startswith("interventions.register"):
        assert (ROOT / name).exists(), name


def test_targets_that_contributing_names_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", CONTRIBUTING.partition("## Style")[0])):
        assert f"\n{target}:" in makefile, target


def test_the_figure_of_the_rooms_is_that_of_its_script_and_has_every_room():
    images = ROOT / "docs" / "images"
    drawn = subprocess.run([sys.executable, images / "rooms.py"], capture_output=True, text=True, check=True).stdout
    assert (images / "rooms.svg").read_text(encoding="utf-8") == drawn, (
        "run: python docs/images/rooms.py > docs/images/rooms.svg"
    )
    for room in ROOMS:
        assert re.search(rf">[^<]*\b{room}\b", drawn), room


def test_the_tree_of_the_readme_has_every_package_and_room():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"^```\nuser_input/.*?^```", readme, re.M | re.S)[0]
    folders = re.findall(r"^( *)(\w+)/ ", tree, re.M)
    assert {name for indent, name in folders if indent} == {*ROOMS, "recipes"}
    for indent, name in folders:
        assert (ROOT / ("crosstime" if indent else "") / name).is_dir(), name
