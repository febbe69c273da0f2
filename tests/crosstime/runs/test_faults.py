"""What a run does when it is killed, or the machine gives out: nothing finished is lost, and one sentence is said."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from small_run import PATIENCE, command, contents, go, half_written, home_of, settle, short_page, wait_for
from typer.testing import CliRunner

import crosstime as ct
from crosstime.cli.main import app
from crosstime.errors import RunError
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages import report as reporting

KILLS = 20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return home_of(tmp_path_factory.mktemp("faults"))


@pytest.fixture(autouse=True)
def _page(monkeypatch):
    monkeypatch.setattr(reporting, "write_report", short_page)


def go_with_small_files(home: str, runs: str, output: str) -> None:
    """A run on a disk that is full: no file may grow beyond a few kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        go(home, runs)
    except RunError as error:
        Path(output).write_text(str(error))


def go_with_little_memory(home: str, runs: str, output: str) -> None:
    """A run with a dictionary of 6 GB with its gradients and moments; the process may use 2 GB at most."""
    settle()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        ct.run(Recipe.load(Path(home) / "small.toml", ["crosscoder.n_features=12000000"]), runs)
    except RunError as error:
        Path(output).write_text(str(error))


@pytest.fixture(scope="module")
def whole(home: Path, forks) -> tuple[Path, float]:
    """A run that nothing happened to, and how long it took."""
    for name in ("warm", "whole"):  # the first pays for what the fork server has not loaded yet
        started = time.perf_counter()
        process = forks.Process(target=go, args=(str(home), str(home / name)))
        process.start()
        process.join()
        assert process.exitcode == 0
    return home / "whole" / "small", time.perf_counter() - started


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_gives_what_a_whole_run_gives(home: Path, whole, forks):
    """SIGKILL at random moments; whenever a run comes through, another begins from nothing."""
    folder, seconds = whole
    expected = contents(folder)
    moments, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        place = home / f"killed-{runs}"
        process = forks.Process(target=go, args=(str(home), str(place)))
        process.start()
        process.join(moments.uniform(0.05, 0.8) * seconds)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        assert contents(place / "small") == expected
        runs += 1
    process = forks.Process(target=go, args=(str(home), str(place)))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert contents(place / "small") == expected
    assert half_written(place) == []
    assert not (place / "small" / "partial").exists()


def test_a_full_disk_is_said_in_one_sentence_and_the_run_goes_on_later(home: Path, whole, forks):
    place, output = home / "full", home / "said.txt"
    process = forks.Process(target=go_with_small_files, args=(str(home), str(place), str(output)))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert output.read_text().startswith("no space is left on the disk in stage ")
    assert "\n" not in output.read_text()
    process = forks.Process(target=go, args=(str(home), str(place)))
    process.start()
    process.join()
    assert contents(place / "small") == contents(whole[0])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says so how much memory a process has")
def test_too_little_memory_is_said_in_one_sentence_and_the_run_goes_on_later(home: Path, whole, forks):
    place, output = home / "forgetful", home / "said-of-memory.txt"
    process = forks.Process(target=go_with_little_memory, args=(str(home), str(place), str(output)))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert output.read_text().startswith("out of memory in stage 'train': take a smaller compute.max_tokens")
    assert list(json.loads((place / "small" / "manifest.json").read_text())["stages"]) == ["suite", "select"]
    process = forks.Process(target=go, args=(str(home), str(place)))
    process.start()
    process.join()
    assert contents(place / "small") == contents(whole[0])


def test_ctrl_c_ends_a_run_in_one_sentence_and_the_same_command_goes_on(home: Path, whole, forks):
    place, output = home / "interrupted", home / "said-of-interruption.txt"
    arguments = ["run", str(home / "small.toml"), "--runs", str(place)]
    pause = {"pause": str(home / "never-released")}
    process = forks.Process(target=command, args=(arguments, str(output)), kwargs=pause)
    process.start()
    wait_for(lambda: (home / f"paused-{process.pid}").exists())
    os.kill(process.pid, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode == 130, output.read_text()
    assert output.read_text().count("crosstime: stopped; finished work is kept in") == 1
    assert "Traceback" not in output.read_text()
    assert half_written(place) == []
    process = forks.Process(target=command, args=(arguments, str(output)))
    process.start()
    process.join()
    assert process.exitcode == 0, output.read_text()
    assert "kept accuracy of every checkpoint" in output.read_text()
    assert contents(place / "small") == contents(whole[0])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory in stage 'evaluate': take a smaller compute"),
        (MemoryError(), "out of memory in stage 'evaluate'"),
        (OSError(28, "No space left on device"), "no space is left on the disk in stage 'evaluate'"),
        (OSError(5, "Input/output error"), "stage 'evaluate' was stopped by the system"),
    ],
)
def test_what_the_machine_ran_out_of_is_said_and_what_is_finished_is_kept(
    home: Path, whole, tmp_path: Path, monkeypatch, error: BaseException, sentence: str
):
    shutil.copytree(whole[0], tmp_path / "small")
    (tmp_path / "small" / "evaluation.csv").unlink()

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("crosstime.runs.stages.evaluate.evaluate", fail)
    lines: list[str] = []
    with pytest.raises(RunError) as caught:
        ct.run(home / "small.toml", tmp_path, announce=lines.append)
    assert str(caught.value).startswith(sentence)
    assert "finished work is kept" in str(caught.value)
    assert lines == ["kept a tiny suite of checkpoints", "kept accuracy of every checkpoint", "kept the crosscoder"]


def test_an_interrupted_command_ends_in_one_sentence(home: Path, whole, tmp_path: Path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "small")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("crosstime.runs.stages.train.train_several", interrupt)
    arguments = ["run", str(home / "small.toml"), "--runs", str(tmp_path), "--force", "train"]
    output = CliRunner().invoke(app, arguments)
    assert output.exit_code == 130
    assert "crosstime: stopped; finished work is kept in" in output.output
    assert "Traceback" not in output.output


def test_two_runs_into_one_folder_are_one_too_many(home: Path, whole, tmp_path: Path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "small")
    (tmp_path / "small" / "evaluation.csv").unlink()

    def second(*arguments, **options):
        with pytest.raises(RunError, match="a run is going on in"):
            ct.run(home / "small.toml", tmp_path)
        raise RunError("refused, as it should be")

    monkeypatch.setattr("crosstime.runs.stages.evaluate.evaluate", second)
    with pytest.raises(RunError, match="refused, as it should be"):
        ct.run(home / "small.toml", tmp_path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "file", ["crosscoder.safetensors", "effects.csv", "attribution/0.safetensors", "suite/step12/model.safetensors"]
)
@pytest.mark.parametrize("how", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50])])
def test_a_damaged_artifact_is_seen_by_its_checksum(whole, tmp_path: Path, file: str, how):
    """That it is made again is in test_running; here, that status names it."""
    from crosstime.runs.status import status

    shutil.copytree(whole[0], tmp_path / "small")
    assert status(tmp_path / "small").finished
    how(tmp_path / "small" / file)
    (spoiled,) = [stage for stage in status(tmp_path / "small").stages if stage.state != "done"]
    assert spoiled.state == "damaged"
    assert file in spoiled.note


def test_status_of_a_run_that_was_stopped(home: Path, whole, tmp_path: Path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "small")
    for name in ("effects.csv", "ablation.csv", "report.html"):
        (tmp_path / "small" / name).unlink()

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("crosstime.runs.stages.attribute.write_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        ct.run(Recipe.load(home / "small.toml", ["effects.top=2"]), tmp_path)
    output = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["status", str(tmp_path / "small")])
    assert output.exit_code == 1
    states = {line.split()[0]: line.split()[1] for line in output.output.splitlines() if line.strip()}
    assert states["train"] == "done"
    assert states["attribute"] == "partial"
    assert "nobody is running it" in output.output


def test_forcing_a_stage_redoes_it_and_what_follows(home: Path, whole, tmp_path: Path):
    shutil.copytree(whole[0], tmp_path / "small")
    lines: list[str] = []
    ct.run(home / "small.toml", tmp_path, force=["attribute"], announce=lines.append)
    assert [line.split()[0] for line in lines] == ["kept"] * 4 + ["made"] * 5
    assert contents(tmp_path / "small") == contents(whole[0])
    with pytest.raises(RunError, match="there is no stage 'atribute': did you mean 'attribute'"):
        ct.run(home / "small.toml", tmp_path, force=["atribute"])
