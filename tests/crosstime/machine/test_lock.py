from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from crosstime.activations import harvest as harvesting
from crosstime.activations.data_config import DataConfig
from crosstime.errors import RunError
from crosstime.machine.lock import exclusive, lock_holder
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Site

LOCK = "run.lock"

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, b"process 7 on elsewhere")
print("held", flush=True)
time.sleep(60)
"""


def hold(folder: Path) -> AbstractContextManager[None]:
    """The lock of a run in a folder."""
    return exclusive(folder / LOCK, work="a run", instead="choose another folder with --runs")


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_who_holds_the_folder(tmp_path: Path, other):
    with (
        pytest.raises(RunError, match=r"a run is going on in .*\(process 7 on elsewhere\).*--runs"),
        hold(tmp_path),
    ):
        pytest.fail("two runs at once")
    assert lock_holder(tmp_path / LOCK) == "process 7 on elsewhere"


def test_the_lock_of_a_process_that_was_killed_is_no_obstacle(tmp_path: Path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK).exists()
    assert lock_holder(tmp_path / LOCK) is None
    with hold(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_nothing_is_left_behind_and_the_folder_is_free_again(tmp_path: Path):
    for _ in range(2):
        with hold(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        assert list(tmp_path.iterdir()) == []
    assert lock_holder(tmp_path / LOCK) is None


def test_the_lock_is_given_back_when_the_run_fails(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), hold(tmp_path):
        raise KeyboardInterrupt
    with hold(tmp_path):
        pass


def test_a_lock_that_is_removed_while_it_is_waited_for_is_taken_anew(tmp_path: Path, monkeypatch):
    """A run that ends between another's opening and locking leaves it with a file that no one else will see."""
    real, calls = fcntl.flock, []

    def racing(descriptor: int, how: int) -> None:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", racing)
    with hold(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch):
    def read_only(*arguments, **options):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", read_only)
        with (
            pytest.raises(RunError, match=r"cannot write in the folder .*: Read-only file system"),
            hold(tmp_path),
        ):
            pytest.fail("locked")


def test_a_second_harvest_into_a_folder_is_refused(brief_suite: Suite, tmp_path: Path):
    folder = tmp_path / "store"
    folder.mkdir()
    with (
        exclusive(folder / harvesting.LOCK, work="a harvest", instead="choose another folder"),
        pytest.raises(RunError, match=r"a harvest is going on in .*store \(process \d+ on .*\): wait until it ends"),
    ):
        harvesting.harvest(brief_suite, Site(0), ["some text ."] * 9, folder, sequence_length=8)
    assert list(folder.iterdir()) == []
    harvesting.harvest(brief_suite, Site(0), ["some text ."] * 9, folder, sequence_length=8)
    assert not (folder / harvesting.LOCK).exists()


def test_a_second_training_run_with_the_same_state_is_refused(brief_suite: Suite, tmp_path: Path):
    config = L1Config(n_features=8, steps=2)
    data = DataConfig(batch_size=8, sequence_length=8)
    text, state = ["some text ."] * 9, tmp_path / "state.safetensors"
    with (
        exclusive(tmp_path / "state.safetensors.lock", work="a training run", instead="choose another folder"),
        pytest.raises(RunError, match=r"a training run is going on in .* \(process \d+ on .*\): wait until it ends"),
    ):
        train(brief_suite, Site(0), text, config, data=data, checkpointing=Checkpointing(state))
    train(brief_suite, Site(0), text, config, data=data, checkpointing=Checkpointing(state))
    assert list(tmp_path.iterdir()) == []
