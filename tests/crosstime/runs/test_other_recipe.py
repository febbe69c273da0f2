"""A finished run that is given another recipe: refused without a trace, or known to be unfinished until it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import finished_run, home_of, short_page

import crosstime as ct
from crosstime.cli.main import main
from crosstime.runs.stages import report as reporting
from crosstime.runs.stages.attribute import Attribute
from crosstime.runs.status import status
from interventions.errors import InterventionError

REFUSED = (ct.CrosstimeError, InterventionError)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A recipe, its text, and a finished run of it."""
    home = home_of(tmp_path_factory.mktemp("other"))
    finished_run(home)
    return home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the recipe again with changes, in the folder of the finished run."""
    monkeypatch.setattr(reporting, "write_report", short_page)
    return lambda *changes: ct.run(ct.Recipe.load(home / "small.toml", changes), home / "runs")


def states(home: Path) -> dict[str, str]:
    """The state of each stage."""
    return {stage.name: stage.state for stage in status(home / "runs" / "small").stages}


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [
        "compare.site=resid.7",
        "corpus.source=nowhere.txt",
        'compare.revisions=["step0", "step5"]',
        "suite.source=nowhere",
    ],
)
def test_a_refused_recipe_leaves_a_finished_run_as_it_was(home: Path, run, change: str):
    before = files(home / "runs")
    with pytest.raises(REFUSED):
        run(change)
    assert files(home / "runs") == before
    assert set(states(home).values()) == {"done"}


def test_a_refused_recipe_leaves_no_folder(home: Path):
    with pytest.raises(REFUSED):
        ct.run(ct.Recipe.load(home / "small.toml", ["compare.site=resid.7", "name=new"]), home / "runs")
    assert not (home / "runs" / "new").exists()


def test_a_run_with_another_recipe_that_is_stopped_is_not_finished(home: Path, run, monkeypatch: pytest.MonkeyPatch):
    # Stop it in a stage that the change does not concern before, so that three stages are found done, and four are not.
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Attribute, "work", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("effects.top=2", "effects.steps=3")
    stopped = states(home)
    assert {name: stopped[name] for name in ("suite", "select", "train", "evaluate")} == dict.fromkeys(
        ("suite", "select", "train", "evaluate"), "done"
    )
    assert {stopped[name] for name in ("ablate", "explain", "report")} == {"stale"}
    assert stopped["attribute"] in ("waiting", "stale")

    # The command line says so, also by its exit code.
    monkeypatch.setattr("sys.argv", ["crosstime", "status", str(home / "runs" / "small")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1

    # The whole run with that recipe is finished, and the first recipe is then the other one.
    run("effects.top=2", "effects.steps=3")
    assert set(states(home).values()) == {"done"}
    run()
    assert set(states(home).values()) == {"done"}


def test_a_change_that_no_stage_depends_on_repeats_nothing(home: Path, run):
    run()
    before = (home / "runs" / "small" / "crosscoder.safetensors").stat().st_mtime_ns
    run("crosscoder.save_every=7")
    assert (home / "runs" / "small" / "crosscoder.safetensors").stat().st_mtime_ns == before
    assert set(states(home).values()) == {"done"}
