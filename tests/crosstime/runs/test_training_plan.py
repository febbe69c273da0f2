"""What the plan says about the processes of a training is what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.scaling_table import table
from crosstime.activations.row_format import RowFormat
from crosstime.activations.token_rows import Share, TokenRows
from crosstime.cli.main import app
from crosstime.errors import ProcessError
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import Plan, plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.memory import batch_bytes

GPUS = Machine("cuda", "GPUs", 5e13, 3e12, 10**12, 8 * 10**10, 10**14)
LARGE = ("eoc-pythia-160m", "crosscoder.n_features=98304")


def planned(name: str, *overrides: str, processes: int | None = None, machine: Machine = GPUS) -> Plan:
    return plan(Recipe.named(name, ["compute.device=cpu", *overrides]), machine, processes)


def test_the_table_of_the_documentation_is_the_one_that_is_computed():
    text = (Path(__file__).resolve().parents[3] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert table() in text


def test_each_of_several_processes_holds_its_share():
    """32 checkpoints of width 768 and 98,304 features, 2,048 tokens of 33 gates: by hand."""
    cdf = 32 * 768 * 98_304
    training = planned(*LARGE, "compute.feature_shards=4", processes=8).training
    assert (training.groups, training.feature_shards, training.processes) == (2, 4, 8)
    assert training.memory.crosscoder == 16 * 2 * cdf / 4
    assert training.memory.batch == 4 * 1024 * (6 * 32 * 98_304 / 4 + 8 * 32 * 768)
    assert training.memory.buffer == 262_144 * 32 * 768 * 2
    assert training.traffic.reconstructions == 4 * 1024 * 32 * 768


def test_several_processes_share_the_work_of_a_training():
    alone, shared = (
        next(cost for cost in planned("ctt-pythia-1b", processes=n).costs if cost.stage == "train") for n in (1, 4)
    )
    assert shared.flops == pytest.approx(alone.flops / 4)
    assert shared.memory < alone.memory


@pytest.mark.parametrize(
    ("gigabytes", "processes", "expected"),
    # A checkpoint of Pythia-1B has 1.01 billion numbers of four bytes; 764 fillings follow the first two halves
    [(13, 1, (3, 3, 0)), (9, 1, (3, 1, 2)), (3, 1, (3, 0, 3)), (5, 2, (2, 0, 2)), (5, 3, (1, 1, 0)), (3, 4, (3, 0, 3))],
)
def test_checkpoints_stay_open_as_far_as_they_fit(gigabytes: int, processes: int, expected: tuple[int, int, int]):
    training = planned("ctt-pythia-1b", f"compute.resident_gb={gigabytes}", processes=processes).training
    n_checkpoints, n_open, n_opened = expected
    assert (training.n_checkpoints, training.n_open) == (n_checkpoints, n_open)
    refills = -(-2 * 97_656 * 4096 // 524_288) - 2
    assert training.openings == n_opened * refills
    assert training.open_bytes == pytest.approx(n_open * 1.01e9 * 4, rel=0.01)


def test_the_buffer_takes_what_its_rows_take():
    for name in ("float32", "bfloat16", "int8"):
        rows = TokenRows(3, 16, RowFormat(name))
        rows.append(Share(RowFormat(name).encode(torch.randn(640, 3, 16))))
        planned_bytes = 640 * 3 * RowFormat(name).row_bytes(16)
        assert rows.encoded(torch.arange(640)).nbytes == planned_bytes
        assert rows._rows.nbytes <= 1.02 * planned_bytes


def test_a_batch_takes_its_codes_and_activations_with_their_gradients():
    assert batch_bytes(L1Config(n_features=1024), 3, 16, rows=10) == 4 * 10 * (4 * 1024 + 8 * 3 * 16)
    gates = PerCheckpointJumpReLUConfig(n_features=1024)
    assert batch_bytes(gates, 3, 16, rows=10, feature_shards=2) == 4 * 10 * (6 * 3 * 512 + 8 * 3 * 16)


def test_a_crosscoder_larger_than_half_of_the_memory_is_counted_as_slices():
    evaluate = {
        memory: next(
            cost
            for cost in planned(*LARGE, machine=Machine("cuda", "a", 1e13, 1e12, memory, 10**12, 10**14)).costs
            if cost.stage == "evaluate"
        ).host
        for memory in (30 * 10**9, 60 * 10**9)
    }
    whole, sliced = 8 * 32 * 768 * 98_304, (1 << 28) + 8 * 98_304 * 768 + 4 * 32 * 98_304
    assert evaluate[60 * 10**9] - evaluate[30 * 10**9] == whole - sliced


def test_the_command_says_what_each_process_holds(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["run", "ctt-pythia-1b", "--dry-run", "--processes", "4", "--set", "compute.feature_shards=2"]
    output = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, command).output.split())
    assert (
        "Training on 4 processes (2 x 2: data-parallel groups x feature shards): each has 1.61 GB of crosscoder"
        in output
    )
    assert "each machine has a buffer of 6.44 GB" in output
    alone = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, command[:3]).output.split())
    assert "Training: 3.22 GB of crosscoder and 1.88 GB of batch on the device, and a buffer of 6.44 GB" in alone


def test_processes_that_cannot_be_arranged_are_refused(tmp_path: Path, monkeypatch):
    with pytest.raises(ProcessError, match=r"feature_shards is 2, but 3 processes"):
        planned("ctt-pythia-1b", "compute.feature_shards=2", processes=3)
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["run", "demo", "--processes", "2"])
    assert refused.exit_code != 0
    assert not list(tmp_path.iterdir())
