"""Trains small crosscoders of several kinds and keeps what came out; a program of one process, or of several."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from crosstime.activations.buffer import ActivationBuffer
from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import harvest
from crosstime.activations.store import ActivationStore
from crosstime.machine.processes import ALONE, Processes, join_processes
from crosstime.machine.storage import write_json
from crosstime.machine.tensors import write_tensors
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.loggers import Logging
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.train import train
from crosstime.training.training_result import TrainingResult
from interventions import Site
from tasks.agreement import sentences

DATA = DataConfig(batch_size=32, sequence_length=8, validation=0.2)
SHARED = {"steps": 16, "lr": 3e-3, "seed": 5, "n_features": 96}
CONFIGS = {
    "l1": L1Config(l1=0.05, n_shared=3, **SHARED),
    "batchtopk": BatchTopKConfig(k=1, k_start=2, k_steps=10, dead_after=64, **SHARED | {"steps": 36}),
    "jumprelu": JumpReLUConfig(sparsity=0.5, **SHARED),
    "jumprelu_per_checkpoint": PerCheckpointJumpReLUConfig(**SHARED),
}


def all_kinds(suite: Suite, folder: Path, feature_shards: int = 1) -> dict[str, TrainingResult]:
    """All of `CONFIGS`, with metrics and states in `folder`."""
    text = list(sentences(200, seed=3))
    return {
        kind: train(
            suite,
            Site(0),
            text,
            config,
            data=replace(DATA, buffer_tokens=400 if kind == "l1" else 512),
            checkpointing=Checkpointing(folder / f"{kind}.safetensors", every=10),
            logging=Logging(folder / kind),
            compute=Compute(feature_shards=feature_shards),
        )
        for kind, config in CONFIGS.items()
    }


def harvest_small(suite: Suite, folder: Path) -> ActivationStore:
    """A store of two shards."""
    return harvest(suite, Site(0), list(sentences(200, seed=3)), folder, sequence_length=8, shard_tokens=700)


def batches_by_turn(suite: Suite, processes: Processes = ALONE) -> tuple[Tensor, list[int]]:
    """Batches of a buffer for whose checkpoints there is no memory, and how many checkpoints each process opened."""
    rows = torch.randint(1, 300, (40, 8), generator=torch.Generator().manual_seed(4))
    data = DataConfig(batch_size=20, buffer_tokens=100)
    buffer = ActivationBuffer(suite, Site(0), iter(rows), data, compute=Compute(resident_gb=0.0), processes=processes)
    batches = torch.cat(list(buffer))
    return batches, processes.all_gather(torch.tensor([buffer.checkpoints.openings])).tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    # SUITE FOLDER [NUMBER OF FEATURE SHARDS]
    source, folder, feature_shards = sys.argv[1], Path(sys.argv[2]), int((*sys.argv, 1)[3])
    rank = os.environ.get("RANK", "0")
    for kind, trained in all_kinds(Suite.open(source), folder, feature_shards).items():
        write_json(folder / f"{kind}-{rank}.json", trained.log.to_dict("list"))
        write_tensors(folder / f"weights-{kind}-{rank}.safetensors", trained.crosscoder.state_dict())
        if feature_shards > 1:
            trained.crosscoder.save(folder / f"crosscoder-{kind}.safetensors")
    harvest_small(Suite.open(source), folder / "store")
    batches, openings = batches_by_turn(Suite.open(source), join_processes(torch.device("cpu")))
    write_tensors(folder / f"batches-{rank}.safetensors", {"batches": batches, "openings": torch.tensor(openings)})
