"""The plug-in of docs/tasks.md, installed as a user would: listed, tokenized, scored; a broken one is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from crosstime.suites.accuracy import accuracy
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Bootstrap
from tasks import UnknownTaskError, registry

ROOT = Path(__file__).resolve().parents[1]
BROKEN = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "crosstime-broken"
version = "0.1.0"
[project.entry-points."crosstime.tasks"]
broken = "broken_colours:Colours"
[tool.setuptools]
py-modules = ["broken_colours"]
""",
    "broken_colours.py": "import a_package_that_is_not_there\n",
}


def files_of_the_guide() -> dict[str, str]:
    """The files that the page shows, by name."""
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the page's package and a broken one were installed."""
    folder = tmp_path_factory.mktemp("plugins")
    packages = {"capitals": files_of_the_guide(), "broken": BROKEN}
    for package, files in packages.items():
        (folder / package).mkdir()
        for name, text in files.items():
            (folder / package / name).write_text(text, encoding="utf-8")
    target = folder / "target"
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, *(folder / name for name in packages)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def plugin(installed: Path, monkeypatch) -> None:
    """This process finds the plug-ins, and forgets them afterwards."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.delitem(sys.modules, "capitals", raising=False)


def crosstime(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (installed, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", "from crosstime.cli.main import main; main()", *arguments],
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_page_shows_one_class_and_one_line_of_metadata():
    files = files_of_the_guide()
    assert set(files) == {"pyproject.toml", "capitals.py"}
    assert files["pyproject.toml"].count('capitals = "capitals:Capitals"') == 1
    assert files["capitals.py"].count("\nclass ") == 1


@pytest.mark.slow
def test_the_listing_has_the_plug_in_and_names_the_broken_one(installed: Path):
    done = crosstime(installed, "tasks")
    assert done.returncode == 0
    assert "capitals/<africa|europe>" in done.stdout
    assert "blimp/<paradigm>" in done.stdout
    assert "broken" not in done.stdout
    assert done.stderr.splitlines() == [
        "crosstime: task plug-in 'broken' (broken_colours:Colours) cannot be loaded: ModuleNotFoundError: "
        "No module named 'a_package_that_is_not_there'"
    ]


@pytest.mark.slow
def test_pairs_of_the_plug_in_are_shown_and_its_mistakes_are_one_sentence(installed: Path):
    done = crosstime(installed, "tasks", "show", "capitals/europe", "-n", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("capitals/europe: 6 pairs, en, from by hand")
    assert re.search(r"^\+ The capital of \w+ is \w+\.\n- The capital of \w+ is \w+\.$", done.stdout, re.MULTILINE)
    done = crosstime(installed, "tasks", "show", "capitals/eurpoe")
    assert done.returncode == 2
    assert done.stderr.startswith("crosstime: TASK: capitals has no continent 'eurpoe': did you mean 'europe'?")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("plugin")
def test_the_broken_one_cannot_be_loaded_and_its_error_says_why():
    with pytest.raises(UnknownTaskError, match=r"'broken' \(broken_colours:Colours\) cannot be loaded: ModuleNotFound"):
        tasks.load("broken/red")


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_the_plug_in_is_tokenized_with_its_patch_prompts_and_scored(tmp_path: Path):
    task = tasks.load("capitals/europe")
    text = [sentence for pair in task.pairs for sentence in (pair.right, pair.patch_right)] * 20
    config = TinyConfig(
        d_model=16, n_layers=2, n_heads=2, vocab_size=400, sequence_length=16, batch_tokens=64,
        steps=3, checkpoints=(0, 3), lr=1e-2, warmup=1,
    )  # fmt: skip
    suite = train_tiny_suite(tmp_path / "suite", text, config)
    tokenized = task.tokenize(suite.tokenizer)
    assert tokenized.skipped == {}
    assert len(tokenized) == 6
    ends = [suite.tokenizer.decode(prompt).split()[-2:] for prompt in tokenized.patch]
    assert {end[-1] for end in ends} == {"is"}
    assert {end[0] for end in ends} == {"France", "Italy", "Poland"}
    table = accuracy(suite, task, bootstrap=Bootstrap(20))
    assert table["task"].tolist() == ["capitals/europe"] * 2
    assert table["n"].tolist() == [6, 6]
    assert table["accuracy"].between(0, 1).all()
    assert table["logit_difference"].nunique() == 2, "the checkpoints differ"
