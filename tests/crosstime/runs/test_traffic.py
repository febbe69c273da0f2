"""The planned traffic of a training step is what the collective operations are handed."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.machine.processes import Processes
from crosstime.runs.plan.traffic import traffic
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

CHECKPOINTS, WIDTH, BATCH, FEATURES = 3, 16, 64, 128
SCALARS = 1_000
KINDS: dict[str, TrainerConfig] = {
    "l1": L1Config(n_features=FEATURES, steps=10),
    "jumprelu": JumpReLUConfig(n_features=FEATURES, steps=10),
    "topk": TopKConfig(n_features=FEATURES, steps=10, k=5),
    "batchtopk": BatchTopKConfig(n_features=FEATURES, steps=10, k=5, k_start=None),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shards", "groups"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])
def test_the_bytes_of_a_step_are_those_that_are_planned(
    kind: str, shards: int, groups: int, monkeypatch: pytest.MonkeyPatch
):
    config, counted = KINDS[kind], [0]

    class Done:
        def wait(self) -> None:
            pass

    def all_reduce(tensor: torch.Tensor, *arguments: object, **options: object) -> Done:
        counted[0] += tensor.nbytes
        return Done()

    def all_gather(copies: list[torch.Tensor], tensor: torch.Tensor, **options: object) -> None:
        counted[0] += tensor.nbytes
        for copy in copies:
            copy.copy_(tensor)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    origin = Origin("random", tuple("abc"), Site(0), WIDTH)
    crosscoder = config.crosscoder(origin, shard=FeatureShard(FEATURES, Processes(0, shards)))
    trainer = trainer_of(config, crosscoder, processes=Processes(0, groups))
    batch = torch.randn(BATCH // groups, CHECKPOINTS, WIDTH, generator=torch.Generator().manual_seed(0))

    trainer.update(1, batch)
    planned = traffic(config, CHECKPOINTS, WIDTH, BATCH, feature_shards=shards, groups=groups)
    assert planned.total <= counted[0] <= planned.total + SCALARS
    assert (counted[0] == 0) == (shards == groups == 1)
