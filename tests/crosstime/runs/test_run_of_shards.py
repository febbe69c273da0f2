"""A run whose crosscoder is divided among two processes: the report of one process, and resumed when one is killed."""

from __future__ import annotations

import os
import signal
from multiprocessing.context import BaseContext
from pathlib import Path

import pandas as pd
import pytest
from small_run import PATIENCE, contents, home_of, recipe, together, wait_for

import crosstime as ct

pytestmark = pytest.mark.slow

TABLES = ("accuracy", "evaluation", "effects", "ablation", "training")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A recipe that divides the features among two processes, and its text."""
    return home_of(tmp_path_factory.mktemp("shards"), recipe() + "\n[compute]\nfeature_shards = 2\n")


@pytest.fixture(scope="module")
def uninterrupted(home: Path, forks: BaseContext) -> Path:
    """The folder of a run of two processes that are not interrupted."""
    for process in together(forks, home, home / "uninterrupted", 2):
        process.join(PATIENCE)
        assert process.exitcode == 0, (home / "said-0").read_text()
    return home / "uninterrupted" / "small"


def test_two_shards_give_the_tables_of_one_process(home: Path, uninterrupted: Path):
    alone = ct.Recipe.load(home / "small.toml", ["compute.feature_shards=1"])
    folder = ct.run(alone, home / "alone").folder
    for name in TABLES:
        actual, expected = (pd.read_csv(path / f"{name}.csv") for path in (uninterrupted, folder))
        pd.testing.assert_frame_equal(actual, expected, rtol=1e-3, atol=1e-4, obj=name)
    assert (uninterrupted / "crosscoder.safetensors").is_file()


def test_a_run_resumes_after_one_shard_was_killed(home: Path, uninterrupted: Path, forks: BaseContext):
    # Kill one process when both have paused after the first saved state, which consists of two parts.
    runs, pause = home / "killed", home / "pause"
    pause.mkdir()
    processes = together(forks, home, runs, 2, pause=str(pause / "release"))
    wait_for(lambda: len(list(pause.glob("paused-*"))) == 2)
    assert len(list((runs / "small" / "partial").glob("train-*/state.safetensors.*-of-00002.safetensors"))) == 2
    os.kill(processes[1].pid, signal.SIGKILL)
    processes[1].join(PATIENCE)
    (pause / "release").touch()

    # The other one says so in one sentence.
    processes[0].join(PATIENCE)
    assert processes[0].exitcode == 2
    message = (home / "said-0").read_text()
    assert "process 0 of 2 stops, because another process was killed or failed" in message
    assert "Traceback" not in message

    # The same command resumes, and gives the same bits.
    for process in together(forks, home, runs, 2):
        process.join(PATIENCE)
        assert process.exitcode == 0, (home / "said-0").read_text()
    assert contents(runs / "small") == contents(uninterrupted)


def test_one_process_cannot_run_a_recipe_of_two_shards(home: Path):
    with pytest.raises(ct.CrosstimeError, match="feature_shards is 2, but one process was started"):
        ct.run(home / "small.toml", home / "refused")
    assert not (home / "refused" / "small" / "suite").exists()
