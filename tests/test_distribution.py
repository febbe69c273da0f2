"""What is installed is what is here: the wheel and the source archive have every file that they need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crosstime", "interventions", "tasks", "user_input")
DOCUMENTS = ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md")
BESIDE = (*DOCUMENTS, "MANIFEST.in", "Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml")
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # setuptools puts its own arguments there
print(build_meta.build_wheel(out), build_meta.build_sdist(out))
"""
IN_FOLDER = "import sys; sys.path.insert(0, '.'); "


def sources(*folders: str) -> set[str]:
    """Files of the checkout's folders, without what Python and tools left there."""
    paths = (path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*"))
    return {
        str(path)
        for path in paths
        if (ROOT / path).is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source archive, built in a copy, since building writes beside the sources."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in (*BESIDE, *sources(*PACKAGES, "benchmarks", "docs", "examples", "tests")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wheel, archive = done.stdout.split()[-2:]
    return out / wheel, out / archive


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages_and_no_other(built: tuple[Path, Path]):
    names = {name for name in zipfile.ZipFile(built[0]).namelist() if ".dist-info/" not in name}
    assert names == sources(*PACKAGES)
    assert {"crosstime/recipes/demo.toml", "crosstime/report/page/page.js", "crosstime/report/page/style.css"} <= names


@pytest.mark.slow
def test_the_wheel_says_what_pyproject_says(built: tuple[Path, Path]):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(built[0]) as wheel:
        (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = wheel.read(f"{folder}/METADATA").decode()
        entries = wheel.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert f"Version: {project['version']}\n" in metadata
    assert metadata.count("\nRequires-Dist: ") == len(project["dependencies"]) + sum(
        len(extra) for extra in project["optional-dependencies"].values()
    )
    for name, target in (project["scripts"] | project["entry-points"]["crosstime.tasks"]).items():
        assert f"{name} = {target}\n" in entries


@pytest.mark.slow
def test_the_source_archive_can_be_built_tested_and_documented(built: tuple[Path, Path]):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = sources(*PACKAGES, "benchmarks", "docs", "examples", "tests") | set(BESIDE)
    assert wanted <= names


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(built: tuple[Path, Path], tmp_path: Path):
    """Unpacked into a folder, it finds its own recipes and assets, not those of the checkout."""
    zipfile.ZipFile(built[0]).extractall(tmp_path)
    code = (
        "from importlib import resources; import crosstime.runs.recipe.recipe; "
        "from crosstime.report.page.render import SCRIPTS; "
        "print(crosstime.__file__); print(*crosstime.runs.recipe.recipe.shipped_recipes()); "
        "print(all((resources.files('crosstime.report.page') / f'{name}.js').is_file() for name in SCRIPTS))"
    )
    done = subprocess.run(
        [sys.executable, "-c", IN_FOLDER + code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    place, recipes, scripts = done.stdout.splitlines()
    assert Path(place) == tmp_path / "crosstime" / "__init__.py"
    assert set(recipes.split()) == {path.stem for path in (ROOT / "crosstime" / "recipes").glob("*.toml")}
    assert scripts == "True"
