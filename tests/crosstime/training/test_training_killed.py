"""A training run that is killed resumes to the same weights, bit for bit, with real models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_run import PATIENCE, pause_training, wait_for

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Site
from tasks.agreement import sentences


def trained(suite: Suite, checkpointing: Checkpointing = Checkpointing()) -> CrossCoder:
    """A small crosscoder, trained in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = L1Config(n_features=12, steps=40, lr=3e-3, l1=0.05, seed=5)
    data = DataConfig(batch_size=32, sequence_length=8, buffer_tokens=400)
    text = list(sentences(200, seed=3))
    try:
        return train(suite, Site(0), text, config, data=data, checkpointing=checkpointing).crosscoder
    finally:
        torch.set_num_threads(threads)


@pytest.mark.long
def test_kill_9_and_resume_gives_bit_identical_weights(brief_suite: Suite, tmp_path: Path):
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests}:{tests.parents[1]}", "OMP_NUM_THREADS": "1"}
    state, release = tmp_path / "state.safetensors", tmp_path / "release"

    def start() -> subprocess.Popen:
        source = str(Path(brief_suite.checkpoints[0].source).parent)
        return subprocess.Popen([sys.executable, __file__, source, str(tmp_path)], env=environment)

    # Kill training at a step after the first saved state.
    killed = start()
    wait_for(lambda: killed.poll() is not None or bool(list(tmp_path.glob("paused-*"))))
    assert state.exists()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    assert not (tmp_path / "crosscoder.safetensors").exists()

    # Resume it in a new process.
    release.touch()
    assert start().wait(PATIENCE) == 0
    resumed = CrossCoder.load(tmp_path / "crosscoder.safetensors")
    for name, weight in trained(brief_suite).state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


if __name__ == "__main__":
    source, folder = sys.argv[1], Path(sys.argv[2])
    pause_training(folder / "release")
    checkpointing = Checkpointing(folder / "state.safetensors", every=3)
    trained(Suite.open(source), checkpointing).save(folder / "crosscoder.safetensors")
