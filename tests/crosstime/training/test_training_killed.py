"""A training that is killed at once goes on to the very weights of one that was not, with real models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.suite import Suite
from crosstime.training.l1 import L1Config
from crosstime.training.train import train
from interventions import Site
from tasks.agreement import sentences


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


PROGRAM = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from crosstime.activations.data_config import DataConfig
from crosstime.suites.suite import Suite
from crosstime.training.l1 import L1Config
from crosstime.training.resume import Checkpointing
from crosstime.training.trainer import Trainer
from crosstime.training.train import train
from interventions import Site
from tasks.agreement import sentences
suite, folder, slow = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "slow"
if slow:
    real = Trainer.update
    Trainer.update = lambda self, step, x: time.sleep(0.2) or real(self, step, x)
config = L1Config(n_features=12, steps=40, lr=3e-3, l1=0.05, seed=5)
trained = train(
    Suite.open(suite),
    Site(0),
    list(sentences(200, seed=3)),
    config,
    data=DataConfig(batch_size=32, sequence_length=8, buffer_tokens=400),
    checkpointing=Checkpointing(folder / "state.safetensors", every=3),
)
trained.crosscoder.save(folder / "crosscoder.safetensors")
"""


@pytest.mark.slow
def test_kill_9_and_resume_gives_bit_identical_weights(suite: Suite, tmp_path):
    source = str(Path(suite[suite.revisions[0]].source).parent)
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def start(folder: Path, pace: str) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", PROGRAM, source, str(folder), pace], env=environment)

    killed = start(tmp_path / "killed", "slow")
    state = tmp_path / "killed" / "state.safetensors"
    until = time.monotonic() + 120
    while not state.exists() and time.monotonic() < until:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert state.exists()
    assert not (tmp_path / "killed" / "crosscoder.safetensors").exists()
    assert start(tmp_path / "killed", "fast").wait() == 0
    found = CrossCoder.load(tmp_path / "killed" / "crosscoder.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = L1Config(n_features=12, steps=40, lr=3e-3, l1=0.05, seed=5)
    try:
        data = DataConfig(batch_size=32, sequence_length=8, buffer_tokens=400)
        whole = train(suite, Site(0), list(sentences(200, seed=3)), config, data=data)
    finally:
        torch.set_num_threads(threads)
    for name, weight in whole.crosscoder.state_dict().items():
        assert torch.equal(weight, found.state_dict()[name]), name
