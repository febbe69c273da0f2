"""Processes of one machine share the rows of a buffer; several machines send each other what they do not have."""

from __future__ import annotations

import errno
import os
import socket
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from crosstime.activations import token_rows
from crosstime.activations.row_format import RowFormat
from crosstime.activations.token_rows import Share, TokenRows
from crosstime.errors import CrosscoderError
from crosstime.machine import shared_memory
from crosstime.machine.processes import Processes
from crosstime.machine.tensors import read_tensors, write_tensors

ALL = torch.randn(23, 3, 5, generator=torch.Generator().manual_seed(2))
MORE = torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(3))
PLACES = {
    "one machine": ["a", "a", "a"],
    "two machines": ["a", "a", "b"],
    "by turns": ["a", "b", "a"],
    "three machines": ["a", "b", "c"],
}


def join(rank: int, size: int, folder: Path) -> Processes:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=size)
    return Processes(rank, size)


def change(rows: TokenRows, processes: Processes) -> torch.Tensor:
    """Add, remove, reorder and replace tokens; what is left at the end."""
    columns = list(processes.share(range(3)))
    rows.append(Share(rows.row_format.encode(ALL[processes.share(range(len(ALL)))])))
    rows.keep(torch.arange(20, 0, -2))
    rows.append(Share(rows.row_format.encode(MORE[:7, columns]), first_checkpoint=columns[0]))
    rows.keep(torch.tensor([5, 0, 3]), start=10)
    rows.append(Share(rows.row_format.encode(MORE[processes.share(range(len(MORE)))])))
    rows.truncate(45)
    return rows[torch.arange(len(rows))]


def expected() -> torch.Tensor:
    expected_rows = torch.cat([ALL[torch.arange(20, 0, -2)], MORE[torch.tensor([5, 0, 3])], MORE])
    return expected_rows[:45]


def run(rank: int, folder: Path, names: list[str], row_format: str, full: bool) -> None:
    processes = join(rank, len(names), folder)
    socket.gethostname = lambda: names[rank]
    if full:
        # Shared memory is used up at the second block
        reserve, blocks = shared_memory._reserve, []

        def limited(n_bytes: int) -> str:
            blocks.append(n_bytes)
            if len(blocks) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return reserve(n_bytes)

        shared_memory._reserve = limited
    rows = TokenRows(3, 5, RowFormat(row_format), processes)
    content = change(rows, processes)
    processes.barrier()
    # A number that only the first process writes tells which processes see its memory
    rows._rows[0, 0, 0] = 0
    processes.barrier()
    if rank == 0:
        rows._rows[0, 0, 0] = 1
    processes.barrier()
    shared = rows._rows[0, 0, 0].float().reshape(1)
    write_tensors(folder / f"{rank}.safetensors", {"content": content, "shared": shared})
    processes.barrier()
    dist.destroy_process_group()


def results(forks: BaseContext, folder: Path, names: list[str], row_format: str, *, full: bool = False) -> list[dict]:
    workers = [forks.Process(target=run, args=(rank, folder, names, row_format, full)) for rank in range(len(names))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    assert [worker.exitcode for worker in workers] == [0] * len(names)
    return [read_tensors(folder / f"{rank}.safetensors")[0] for rank in range(len(names))]


@pytest.mark.parametrize("places", PLACES)
def test_every_process_has_all_rows_and_those_of_a_machine_share_them(places: str, forks: BaseContext, tmp_path: Path):
    names = PLACES[places]
    for rank, tensors in enumerate(results(forks, tmp_path, names, "float32")):
        assert torch.equal(tensors["content"], expected())
        assert bool(tensors["shared"]) == (names[rank] == names[0])
    assert not list(Path("/dev/shm").glob("crosstime-*")) or not Path("/dev/shm").is_dir()


@pytest.mark.parametrize("row_format", ["int8", "bfloat16"])
def test_other_formats_are_sent_too(row_format: str, forks: BaseContext, tmp_path: Path):
    encoding = RowFormat(row_format)
    for tensors in results(forks, tmp_path, PLACES["two machines"], row_format):
        assert torch.equal(tensors["content"], encoding.decode(encoding.encode(expected())))


def test_without_enough_shared_memory_each_process_has_its_own(forks: BaseContext, tmp_path: Path):
    for tensors in results(forks, tmp_path, PLACES["two machines"], "float32", full=True):
        assert torch.equal(tensors["content"], expected())


def test_one_process_alone():
    rows = TokenRows(3, 5, RowFormat("float32"))
    assert torch.equal(change(rows, Processes()), expected())
    assert torch.equal(torch.cat(list(rows.decoded(3))), expected()[3:])


def test_rows_are_decoded_some_at_a_time(monkeypatch):
    monkeypatch.setattr(token_rows, "CHUNK", 4)
    rows = TokenRows(3, 5, RowFormat("float32"))
    rows.append(Share(ALL))
    chunks = list(rows.decoded(1))
    assert [len(chunk) for chunk in chunks] == [4, 4, 4, 4, 4, 2]
    assert torch.equal(torch.cat(chunks), ALL[1:])


@pytest.mark.parametrize("rows", [ALL.bfloat16(), ALL[:, :2], ALL[..., :4]])
def test_saved_rows_that_do_not_fit_are_refused(rows: torch.Tensor):
    with pytest.raises(CrosscoderError, match=r"the saved activations are .* does not fit a buffer of float32 for 3"):
        TokenRows(3, 5, RowFormat("float32")).load(rows)


def test_what_is_missing_of_shared_memory_is_said(monkeypatch):
    def full(n_bytes: int) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shared_memory, "_reserve", full)
    with pytest.warns(RuntimeWarning, match=r"cannot share 3 GB of memory in .* \(No space left on device\)"):
        assert shared_memory.shared_bytes(3 * 10**9, Processes()) is None
