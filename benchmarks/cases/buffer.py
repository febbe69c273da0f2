"""The shuffle buffer: its memory on a machine with several processes, its error in int8, and waiting for a store.

*Memory.* Processes fill a buffer together, each with its share of random tokens. The sum of their proportional set
sizes, in which a shared page counts once, is compared with that of processes that keep a buffer each. *Error.*
Activations of random models are encoded in int8. *Waiting.* A crosscoder is trained on a store, whose blocks are read
in a thread while the steps run, or when the buffer needs them; the batches are the same.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.cases.harvest import suite_of
from benchmarks.cases.harvest import write as write_store
from benchmarks.memory import footprints
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, build, sizes_for
from crosstime.activations.data_config import DataConfig
from crosstime.activations.row_format import RowFormat
from crosstime.activations.store import ActivationStore, StoredBatches
from crosstime.activations.token_rows import Share, TokenRows
from crosstime.crosscoders.origin import Origin
from crosstime.machine.host import Host
from crosstime.machine.processes import ALONE, join_processes
from crosstime.training.l1_config import L1Config
from crosstime.training.trainer_of import trainer_of

MEGABYTE = 1 << 20
CHECKPOINTS, WIDTH = 3, 512
LENGTH = 64


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure memory with one, two and four processes, the error of int8, and waiting for a store."""
    tokens, processes = (8_192, (1, 2)) if quick else (65_536, (1, 2, 4))
    sizes = replace(sizes_for(torch.device("cpu"), quick=quick)[0], checkpoints=2, features=256, runs=1)
    sizes = replace(sizes, prompts=64 if quick else 1_024, shortest=LENGTH, longest=LENGTH)
    setting = build(sizes, torch.device("cpu"))
    rows = [row for n in processes for row in memory_rows(n, tokens)] + int8_rows(setting) + waiting_rows(setting)
    details = {
        **{"tokens": tokens, "checkpoints": CHECKPOINTS, "width": WIDTH, "dtype": "bfloat16"},
        **{"memory": "sum of proportional set sizes above those before", "threads": "1 a process"},
        **{"int8 and store": f"d_model {sizes.d_model}, {sizes.prompts * LENGTH:,} tokens"},
    }
    return Result("buffer", "cpu", details, tuple(rows))


def memory_rows(n_processes: int, n_tokens: int) -> list[Row]:
    """Memory of a machine in which processes share a buffer, and in which each has its own."""
    shared, apart = (sum_of_sizes(n_processes, n_tokens, together=together) for together in (True, False))
    planned = n_tokens * CHECKPOINTS * RowFormat("bfloat16").row_bytes(WIDTH)
    case = f"{n_processes} processes"
    return [
        Row.less(case, "MB of the machine", shared / MEGABYTE, apart / MEGABYTE, "a buffer each"),
        Row.within(case, "MB of the machine, planned", shared / MEGABYTE, 1.15 * planned / MEGABYTE + 8 * n_processes),
    ]


def sum_of_sizes(n_processes: int, n_tokens: int, *, together: bool) -> float:
    """Bytes that all processes hold when the buffer is filled."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    groups = [(rank, n_processes, port, n_tokens, together) for rank in range(n_processes)]
    return float(sum(footprint.value for footprint in footprints(prepare, groups)))


def prepare(
    rank: int, n_processes: int, port: int, n_tokens: int, together: bool
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Prepare for `footprints`: filling a buffer of a few tokens, and of all; the value is the growth in bytes."""
    torch.set_num_threads(1)
    if n_processes > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n_processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def fill(count: int) -> float:
        processes = join_processes(torch.device("cpu")) if n_processes > 1 else ALONE
        own = Host.of if together else lambda group: Host.apart(group) if group.size > 1 else Host()
        with patch.object(Host, "of", own):
            rows = TokenRows(CHECKPOINTS, WIDTH, RowFormat("bfloat16"), processes)
        before = proportional_size()
        share = len(processes.share(range(count)))
        rows.append(Share(torch.randn(share, CHECKPOINTS, WIDTH).bfloat16()))
        # Every process reads all of the tokens, as batches do
        total = sum(float(chunk.float().abs().sum()) for chunk in rows.decoded())
        processes.barrier()
        grown = proportional_size() - before
        processes.barrier()
        assert total > 0
        return grown

    return lambda: fill(64), lambda: fill(n_tokens)


def proportional_size() -> float:
    """Bytes of this process, where a page that n processes share counts for one n-th."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("Pss:"))
    return float(line.split()[1]) * 1024


def int8_rows(setting: Setting) -> list[Row]:
    """The error of activations in int8, and in bfloat16, as a share of their variance."""
    x = setting.activations()
    variance = (x - x.mean(1, keepdim=True)).square().sum()
    errors = {}
    for name in ("int8", "bfloat16"):
        row_format = RowFormat(name)
        errors[name] = float((row_format.decode(row_format.encode(x)).float() - x).square().sum() / variance)
    sizes = [RowFormat(name).row_bytes(setting.sizes.d_model) for name in ("int8", "bfloat16")]
    return [
        Row.within("int8", "squared error, as a share of the variance", errors["int8"], 1e-3),
        Row.alone("bfloat16", "squared error, as a share of the variance", errors["bfloat16"]),
        Row.less("int8", "bytes of a row", sizes[0], sizes[1], "bfloat16"),
    ]


def waiting_rows(setting: Setting) -> list[Row]:
    """Seconds of a training in which it waits for a store, reading ahead or not."""
    with tempfile.TemporaryDirectory() as folder:
        suite = suite_of(setting, Path(folder) / "suite")
        store = write_store(setting, suite, Path(folder) / "store")
        waits = {}
        for name in ("warm-up", "ahead", "when needed"):
            with patch.object(StoredBatches, "_reads_ahead", property(lambda self, name=name: name != "when needed")):
                waits[name] = waiting(setting, store)
    return [
        Row.less("store", "% of the time waiting", 100 * waits["ahead"], 100 * waits["when needed"], "no thread"),
    ]


def waiting(setting: Setting, store: ActivationStore) -> float:
    """Share of the time of a training in which it waits for batches, after the first filling."""
    store = ActivationStore.open(store.folder)
    batch = min(512, store.n_tokens // 8)
    steps = 3 * store.n_tokens // batch
    config = L1Config(n_features=setting.sizes.features, steps=steps, lr=1e-3)
    origin = Origin("random", store.revisions, setting.site, store.d_model)
    trainer = trainer_of(config, config.crosscoder(origin, store.scales))
    data = DataConfig(batch_size=batch, buffer_tokens=4 * batch)
    with closing(store.batches(data, limit=steps * batch, repeat=True)) as batches:
        x, waited = next(batches), 0.0
        began = time.perf_counter()
        for step in range(steps):
            trainer.update(step, x)
            asked = time.perf_counter()
            x = next(batches, x)
            waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - began)
