"""Several processes under torchrun do together what one does alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trained_kinds import CONFIGS, all_kinds, batches_by_turn, harvest_small

from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import LOCK
from crosstime.errors import CrosscoderError, ProcessError
from crosstime.machine.processes import ALONE, Processes, join_processes, local_device
from crosstime.machine.tensors import read_tensors
from crosstime.suites.suite import Suite
from crosstime.training.train import train
from interventions import Site


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


@pytest.mark.parametrize("count", [0, 1, 4, 7, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_in_order_and_differ_by_one_at_most(count: int, size: int):
    items = list(range(count))
    shares = [Processes(rank, size).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rows_of_a_batch_are_parted_among_all():
    batch = torch.arange(12).reshape(6, 2)
    parts = [Processes(rank, 3).rows(batch) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == batch.tolist()
    assert {len(part) for part in parts} == {2}


def test_a_process_that_is_alone_gets_back_what_it_gave():
    x = torch.arange(6.0).reshape(3, 2)
    assert ALONE.all_gather(x) is x
    assert ALONE.maximum(x) is x
    ALONE.mean_(x)
    assert torch.equal(x, torch.arange(6.0).reshape(3, 2))
    assert join_processes(torch.device("cpu")) == ALONE


def test_each_process_takes_the_gpu_that_torchrun_gave_it(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device(torch.device("cuda")) == torch.device("cuda:3")
    assert local_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert local_device(torch.device("cpu")) == torch.device("cpu")


def test_a_batch_that_cannot_be_shared_evenly_is_refused(suite: Suite, monkeypatch):
    monkeypatch.setattr("crosstime.training.train_several.join_processes", lambda device: Processes(0, 3))
    with pytest.raises(CrosscoderError, match=r"3 processes cannot share a batch of 32 tokens evenly"):
        train(suite, Site(0), ["text ."], CONFIGS["l1"], data=DataConfig(batch_size=32, sequence_length=8))


@pytest.mark.parametrize(
    "wait",
    [lambda p: p.mean_(torch.ones(2)), lambda p: p.maximum(torch.ones(2)), lambda p: p.all_gather(torch.ones(2))],
)
def test_a_process_that_has_lost_another_says_so_in_one_sentence(wait, monkeypatch):
    def gone(*arguments, **options):
        raise RuntimeError("[pair.cc:554] Connection closed by peer [127.0.0.1]:4321\nand more of that kind")

    for name in ("all_reduce", "all_gather"):
        monkeypatch.setattr(torch.distributed, name, gone)
    with pytest.raises(ProcessError) as caught:
        wait(Processes(1, 2))
    assert str(caught.value).startswith(
        "process 1 of 2 stops, because another process was killed or failed ([pair.cc:554] Co"
    )
    assert str(caught.value).endswith("the same command resumes from there")
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_two_processes_give_the_losses_and_weights_of_one(suite: Suite, tmp_path):
    root = Path(__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        str(Path(__file__).parents[1] / "trained_kinds.py"),
        str(Path(suite[suite.revisions[0]].source).parent),
        str(tmp_path / "two"),
    ]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    alone = all_kinds(suite, tmp_path / "one")
    assert running.wait(timeout=600) == 0, running.stderr.read()
    for kind, trained in alone.items():
        both = [json.loads((tmp_path / "two" / f"{kind}-{rank}.json").read_text()) for rank in (0, 1)]
        assert both[0] == both[1], kind
        expected = trained.log.to_dict("list")
        assert set(both[0]) == set(expected)
        for name in ("loss", "l2", "sparsity", "l0", "held_out_loss", "held_out_l2"):
            assert both[0][name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5), (kind, name)
        weights = [read_tensors(tmp_path / "two" / f"weights-{kind}-{rank}.safetensors")[0] for rank in (0, 1)]
        for name, weight in trained.crosscoder.state_dict().items():
            assert torch.equal(weights[0][name], weights[1][name]), (kind, name)
            torch.testing.assert_close(weights[0][name], weight, rtol=1e-3, atol=1e-4)
        assert (tmp_path / "two" / f"{kind}.safetensors").is_file()
        rows = (tmp_path / "two" / kind / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == len(expected["loss"])
    # Checkpoints that do not fit in memory are divided among the processes, which then run the same batches as one
    batches, n_openings = batches_by_turn(suite)
    for rank in (0, 1):
        shared = read_tensors(tmp_path / "two" / f"batches-{rank}.safetensors")[0]
        assert torch.equal(shared["batches"], batches)
        # Each opens the first checkpoint once more, to measure it
        assert shared["openings"].tolist() == [n_openings[0] // 2 + 1] * 2
    # A store that both wrote is the store of one, byte for byte
    store = harvest_small(suite, tmp_path / "one" / "store")
    assert len(store.manifest["shards"]) > 1
    for path in store.folder.iterdir():
        if path.name != LOCK:
            assert path.read_bytes() == (tmp_path / "two" / "store" / path.name).read_bytes(), path.name
    assert sum(alone["batchtopk"].log["sparsity"]) > 0, "AuxK was not at work"


def test_processes_that_start_from_other_inputs_are_refused(monkeypatch):
    processes = Processes(0, 3)
    monkeypatch.setattr(Processes, "all_gather", lambda self, own: torch.cat([own, own, own + 1]))
    with pytest.raises(ProcessError, match="processes 0 and 2 of 3 do not have the same text: every process needs"):
        processes.agree(b"1234", "text")
    monkeypatch.setattr(Processes, "all_gather", lambda self, own: torch.cat([own, own, own]))
    processes.agree(b"1234", "text")
