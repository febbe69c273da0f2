"""On a disk that is full one sentence is said and nothing is left half-written; with more room the work goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
from small_disk import harvested, in_order
from small_run import contents, go, home_of

from crosstime.suites.suite import Suite

pytestmark = pytest.mark.slow
MOUNTED = 'mount -t tmpfs -o size=300k tmpfs "$0" && exec "$@"'


def on_its_own_disk(disk: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that alone sees a file system of its own, of 300 kB, in a folder."""
    disk.mkdir(exist_ok=True)
    whole = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, str(disk), *command]
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[3]}:{Path(__file__).parents[1]}"}
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module", autouse=True)
def _can_mount(tmp_path_factory) -> None:
    try:
        tried = on_its_own_disk(tmp_path_factory.mktemp("disk"), "true")
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if tried.returncode:
        pytest.skip(f"no disk can be mounted here: {tried.stderr.strip()}")


def small_disk(disk: Path, what: str, source: Path) -> dict[str, Any]:
    program = Path(__file__).parents[1] / "small_disk.py"
    done = on_its_own_disk(disk, sys.executable, str(program), what, str(source), str(disk))
    assert done.returncode == 0, done.stderr
    assert list(disk.iterdir()) == []
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path, forks: BaseContext):
    home = home_of(tmp_path / "home")
    results = small_disk(tmp_path / "disk", "run", home / "small.toml")
    assert len(results["messages"]) >= 2
    for sentence in results["messages"]:
        assert "No space left on device" in sentence or sentence.startswith("no space is left on the disk in ")
        assert "\n" not in sentence
    process = forks.Process(target=go, args=(str(home), str(tmp_path / "whole")))
    process.start()
    process.join()
    assert results["content"] == in_order(contents(tmp_path / "whole" / "small"))
    place = tmp_path / "disk" / "small"
    assert results["sealed"] == f"cannot write in the folder {place}: Read-only file system"


def test_a_store_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path, brief_suite: Suite):
    source = Path(brief_suite["step0"].source).parent
    results = small_disk(tmp_path / "disk", "store", source)
    refused, *messages = results["messages"]
    assert "but its disk has" in refused
    assert len(messages) >= 2
    for sentence in messages:
        assert "No space left on device" in sentence
        assert "nothing of it is left" in sentence
        assert "\n" not in sentence
    assert "Read-only file system" in results["sealed"]
    assert "\n" not in results["sealed"]
    assert json.loads(results["content"]) == harvested(brief_suite, tmp_path / "store").manifest["shards"]
