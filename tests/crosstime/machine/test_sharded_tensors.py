"""Tensors in several files with an index: read back by any number of readers, and refused where something is wrong."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from crosstime.errors import RunError
from crosstime.machine.part_names import index_of, is_sharded
from crosstime.machine.processes import Processes
from crosstime.machine.sharded_tensors import ShardedTensors, remove_parts, write_sharded_tensors

WHOLE = {"rows": torch.arange(24.0).reshape(8, 3), "columns": torch.arange(16).reshape(2, 8), "bias": torch.ones(3)}
AXES = {"rows": 0, "columns": 1}


class Threads(Processes):
    """Processes that are threads of this one, with a gather through memory."""

    def __new__(cls, *arguments: object) -> Threads:
        return super().__new__(cls)

    def meet(self, barrier: threading.Barrier, board: list[torch.Tensor | None]) -> Threads:
        """Communicate with the other threads through a board."""
        object.__setattr__(self, "_barrier", barrier)
        object.__setattr__(self, "_board", board)
        return self

    def all_gather(self, shard: torch.Tensor) -> torch.Tensor:
        """The shards of all threads."""
        self._board[self.rank] = shard
        self._barrier.wait(600)
        joined = torch.cat([part for part in self._board if part is not None])
        self._barrier.wait(600)
        return joined

    def maximum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Wait for all threads; nothing needs the value."""
        self._barrier.wait(600)
        return tensor


def write(path: Path, n_parts: int, generation: str = "1", factor: float = 1.0) -> None:
    """Write `WHOLE`, multiplied by a number, in parts of the same size."""
    barrier, board = threading.Barrier(n_parts), [None] * n_parts
    errors: list[BaseException] = []

    def part(rank: int) -> None:
        size = 8 // n_parts
        span = slice(rank * size, (rank + 1) * size)
        tensors = {"rows": factor * WHOLE["rows"][span], "columns": WHOLE["columns"][:, span], "bias": WHOLE["bias"]}
        processes = Threads(rank, n_parts).meet(barrier, board)
        try:
            write_sharded_tensors(path, tensors, AXES, {"who": "me"}, generation=generation, processes=processes)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=part, args=(rank,)) for rank in range(n_parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not errors, errors


@pytest.mark.parametrize("n_parts", [1, 2, 4])
@pytest.mark.parametrize("n_readers", [1, 2, 8])
def test_any_number_of_readers_reads_what_any_number_of_writers_wrote(n_parts: int, n_readers: int, tmp_path: Path):
    write(tmp_path / "state.safetensors", n_parts)
    sharded = ShardedTensors.open(tmp_path / "state.safetensors")
    assert (sharded.metadata, sharded.length) == ({"who": "me"}, 8)
    size = 8 // n_readers
    parts = [sharded.read(number * size, (number + 1) * size) for number in range(n_readers)]
    assert torch.equal(torch.cat([part["rows"] for part in parts]), WHOLE["rows"])
    assert torch.equal(torch.cat([part["columns"] for part in parts], 1), WHOLE["columns"])
    assert all(torch.equal(part["bias"], WHOLE["bias"]) for part in parts)


def test_what_was_valid_before_is_replaced_with_the_index(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    write(path, 2)
    write(path, 4, generation="2", factor=-1.0)
    assert torch.equal(ShardedTensors.open(path).read()["rows"], -WHOLE["rows"])
    assert len(list(tmp_path.iterdir())) == 5
    remove_parts(path)
    assert list(tmp_path.iterdir()) == []
    assert not is_sharded(path)


def test_an_index_stands_for_its_file(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    write(path, 2)
    assert is_sharded(path)
    assert is_sharded(index_of(path))
    assert ShardedTensors.open(index_of(path)).files == ShardedTensors.open(path).files


def part_of(folder: Path, number: int) -> Path:
    """One of two parts."""
    return folder / f"state.safetensors.1-{number:05d}-of-00002.safetensors"


def remove_the_second(folder: Path) -> None:
    part_of(folder, 2).unlink()


def cut_the_second(folder: Path) -> None:
    part_of(folder, 2).write_bytes(part_of(folder, 2).read_bytes()[:-8])


def change_a_number(folder: Path) -> None:
    content = bytearray(part_of(folder, 2).read_bytes())
    content[-1] ^= 1
    part_of(folder, 2).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_the_second, r"names .*00002-of-00002.safetensors, which is missing from"),
        (cut_the_second, r"00002-of-00002.safetensors is not the file that .*index.json was written for: its length"),
        (change_a_number, r"00002-of-00002.safetensors is not the file that .* its checksum differs"),
    ],
)
def test_a_missing_or_changed_part_is_refused(damage, message: str, tmp_path: Path):
    write(tmp_path / "state.safetensors", 2)
    damage(tmp_path)
    with pytest.raises(RunError, match=message):
        ShardedTensors.open(tmp_path / "state.safetensors").read()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"files": []},
        {"files": [{"file": "../elsewhere", "bytes": 1, "sha256": "00"}]},
        {"axes": {"rows": -1}},
        {"axes": {"rows": True}},
        {"length": 7},
        {"length": "8"},
        {"metadata": {"who": 1}},
    ],
)
def test_an_index_that_is_no_index_is_refused(changes: dict[str, object], tmp_path: Path):
    path = tmp_path / "state.safetensors"
    write(path, 2)
    index = index_of(path)
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    with pytest.raises(RunError, match=r"is not an index of sharded tensors|is damaged"):
        ShardedTensors.open(path)


def test_a_tensor_that_the_index_names_and_no_part_has_is_refused(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    write(path, 2)
    index = index_of(path)
    content = json.loads(index.read_text())
    index.write_text(json.dumps(content | {"axes": content["axes"] | {"more": 0}}))
    with pytest.raises(RunError, match="more"):
        ShardedTensors.open(path).read()
