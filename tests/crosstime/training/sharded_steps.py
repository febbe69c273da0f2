"""Takes training steps on a crosscoder whose features are divided among processes; a program of torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.machine.mesh import Mesh
from crosstime.machine.processes import join_processes
from crosstime.machine.tensors import write_tensors
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

STEPS, BATCH, CHECKPOINTS, WIDTH = 12, 32, 3, 8
SIZES = {"n_features": 48, "steps": STEPS, "lr": 3e-3, "seed": 3, "decoder_norm": 0.5}
CONFIGS: dict[str, TrainerConfig] = {
    "l1": L1Config(l1=0.05, n_shared=13, clip=0.5, **SIZES),
    "topk": TopKConfig(k=4, dead_after=64, **SIZES),
    "batchtopk": BatchTopKConfig(k=2, k_start=4, k_steps=4, dead_after=64, **SIZES),
    "jumprelu": JumpReLUConfig(sparsity=0.5, **SIZES),
    "jumprelu_per_checkpoint": PerCheckpointJumpReLUConfig(sparsity=0.5, threshold=0.01, bandwidth=0.5, **SIZES),
}
ORIGIN = Origin("random", tuple("abc"), Site(0), WIDTH)


def batch(step: int) -> torch.Tensor:
    """Activations of one step, the same in every process."""
    return torch.randn(BATCH, CHECKPOINTS, WIDTH, generator=torch.Generator().manual_seed(step))


def steps(config: TrainerConfig, mesh: Mesh) -> tuple[Trainer, torch.Tensor]:
    """Take all steps, and return the trainer and the losses of each step."""
    shard = FeatureShard(config.n_features, mesh.features)
    crosscoder = config.crosscoder(ORIGIN, torch.tensor([0.5, 1.0, 2.0]), shard=shard)
    trainer = trainer_of(config, crosscoder, processes=mesh.data)
    rows = []
    for step in range(STEPS):
        trainer.update(step, mesh.data.rows(batch(step)))
        rows.append(torch.tensor(list(trainer.get_logging_parameters().values())))
    return trainer, torch.stack(rows)


def results(trainer: Trainer, losses: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is compared: weights, losses, counters, codes and reconstructions of new activations."""
    crosscoder, x = trainer.crosscoder, batch(1000)
    codes = crosscoder.encode(x)
    tensors = {name: tensor.detach().contiguous() for name, tensor in crosscoder.state_dict().items()}
    return tensors | {
        "losses": losses,
        "tokens_since_fired": trainer.tokens_since_fired,
        "codes": codes.detach().contiguous(),
        "reconstruction": crosscoder.decode(codes).detach().contiguous(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, feature_shards = Path(sys.argv[1]), int(sys.argv[2])
    processes = join_processes(torch.device("cpu"))
    mesh = Mesh.of(processes, feature_shards)
    for kind, config in CONFIGS.items():
        write_tensors(folder / f"{kind}-{processes.rank}.safetensors", results(*steps(config, mesh)))
