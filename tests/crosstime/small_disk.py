"""A run, or a store of activations, on a disk that is too small and then grows: a program for a disk of its own.

``python small_disk.py run RECIPE DISK`` and ``python small_disk.py store SUITE DISK`` print what was said, one sentence
for each time that the disk was full, what came of it in the end, and what is said of a disk that is read-only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from small_run import contents, half_written, settle

import crosstime as ct
from crosstime.activations import harvest as harvesting
from crosstime.activations.store import ActivationStore
from crosstime.errors import USER_ERRORS
from crosstime.machine.tensors import read_tensors
from crosstime.suites.suite import Suite
from interventions import Site
from tasks.agreement import sentences

SIZES = ("60k", "150k", "300k", "600k", "64m")
TOKENS = 4_200


def harvested(suite: Suite, folder: Path) -> ActivationStore:
    """A store of half a megabyte."""
    return harvesting.harvest(
        suite, Site(0), list(sentences(900, seed=3)), folder, tokens=TOKENS, sequence_length=8, dtype="float32",
        shard_tokens=700,
    )  # fmt: skip


def growing(disk: Path, work: Callable[[], object]) -> list[str]:
    """Do it on disks of all `SIZES`; what was said, after each of which nothing half-written may be left."""
    messages = []
    for size in SIZES:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
        try:
            work()
        except USER_ERRORS as error:
            messages.append(str(error))
        assert half_written(disk) == []
        for path in disk.rglob("*.safetensors"):
            read_tensors(path)
        for path in disk.rglob("*.json"):
            json.loads(path.read_text())
    return messages


def in_order(content: dict[str, object]) -> str:
    """What a run left, as one text."""
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in content.items()}
    return json.dumps(texts, sort_keys=True)


def read_only(disk: Path, work: Callable[[], object]) -> str:
    """What is said when nothing can be written any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        work()
    except USER_ERRORS as error:
        return str(error)
    return ""


if __name__ == "__main__":
    what, source, disk = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    settle()
    if what == "run":
        messages = growing(disk, lambda: ct.run(Path(source), disk))
        content = in_order(contents(disk / "small"))
        sealed = read_only(disk, lambda: ct.run(Path(source), disk))
    else:
        suite, room = Suite.open(source), shutil.disk_usage
        messages = []
        try:
            harvested(suite, disk / "store")
        except USER_ERRORS as error:
            messages.append(str(error))
        # From here on the disk is found to be full only when something is written.
        shutil.disk_usage = lambda path: room("/")
        messages += growing(disk, lambda: harvested(suite, disk / "store"))
        store = ActivationStore.open(disk / "store")
        store.verify()
        content = json.dumps(store.manifest["shards"])
        sealed = read_only(disk, lambda: harvested(suite, disk / "another"))
        ActivationStore.open(disk / "store").verify()
    print(json.dumps({"messages": messages, "content": content, "sealed": sealed}))
