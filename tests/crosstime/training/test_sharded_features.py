"""A crosscoder whose features are divided among processes is trained as one process trains it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trained_kinds
from sharded_steps import CONFIGS, results, steps

from benchmarks.cases import sharding
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.mesh import Mesh
from crosstime.machine.processes import Processes
from crosstime.machine.tensors import read_tensors
from crosstime.suites.suite import Suite
from interventions import Site

FEATURE_AXIS = {"W_dec": 0, "W_enc": 2, "b_enc": 0, "activation.log_threshold": 0, "tokens_since_fired": 0, "codes": -1}


@pytest.mark.long
@pytest.mark.parametrize(("n_processes", "feature_shards"), [(2, 2), (4, 4), (4, 2)])
def test_losses_weights_and_codes_are_those_of_one_process(n_processes: int, feature_shards: int, tmp_path: Path):
    program = [str(Path(__file__).with_name("sharded_steps.py")), str(tmp_path), str(feature_shards)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_processes), "--standalone"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run([*torchrun, *program], env=environment, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr

    for kind, config in CONFIGS.items():
        trainer, losses = steps(config, Mesh())
        alone = results(trainer, losses)
        ranks = [read_tensors(tmp_path / f"{kind}-{rank}.safetensors")[0] for rank in range(n_processes)]
        for name, expected in alone.items():
            for group in range(0, n_processes, feature_shards):
                parts = [rank[name] for rank in ranks[group : group + feature_shards]]
                if name in FEATURE_AXIS:
                    actual = torch.cat(parts, FEATURE_AXIS[name])
                else:
                    actual = parts[0]
                    assert all(torch.equal(part, actual) for part in parts), (kind, name)
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, msg=f"{kind} {name}")


@pytest.mark.parametrize("n_features", [32, 2048 + 1022])
@pytest.mark.parametrize("n_shards", [2, 4])
def test_the_initial_weights_of_all_shards_are_those_of_the_whole(n_features: int, n_shards: int):
    n_features -= n_features % n_shards
    origin = Origin("random", ("a", "b", "c"), Site(0), 5)
    whole = CrossCoder(origin, n_features, n_shared=n_features // 3, seed=9)
    shards = [
        CrossCoder(
            origin,
            n_features,
            n_shared=n_features // 3,
            seed=9,
            shard=FeatureShard(n_features, Processes(rank, n_shards)),
        )
        for rank in range(n_shards)
    ]
    assert torch.equal(torch.cat([shard.W_dec for shard in shards]), whole.W_dec)
    assert torch.equal(torch.cat([shard.W_enc for shard in shards], 2), whole.W_enc)
    assert sum(shard.shard.overlap(shard.n_shared) for shard in shards) == whole.n_shared


def test_features_that_cannot_be_divided_evenly_are_refused():
    with pytest.raises(CrosscoderError, match=r"1,000 features cannot be divided evenly among 3 feature shards"):
        FeatureShard(1000, Processes(0, 3))


def torchrun(program: Path, *arguments: object, n_processes: int) -> None:
    """Run a program under torchrun, and wait until it has ended well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_processes), "--standalone"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, str(program), *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.long
def test_a_training_run_is_saved_in_parts_and_resumed_by_another_number_of_shards(brief_suite: Suite, tmp_path: Path):
    program, suite = Path(trained_kinds.__file__), Path(brief_suite[brief_suite.revisions[0]].source).parent
    alone = trained_kinds.all_kinds(brief_suite, tmp_path / "alone")

    # Two shards give the crosscoder of one process, and leave a state of two parts.
    torchrun(program, suite, tmp_path / "two", 2, n_processes=2)
    for kind, trained in alone.items():
        check_crosscoder(CrossCoder.load(tmp_path / "two" / f"crosscoder-{kind}.safetensors"), trained.crosscoder)
        log = json.loads((tmp_path / "two" / f"{kind}-1.json").read_text())
        for name, expected in trained.log.to_dict("list").items():
            assert log[name] == pytest.approx(expected, rel=1e-4, abs=1e-5), (kind, name)
        assert len(list((tmp_path / "two").glob(f"{kind}.safetensors.*-of-00002.safetensors"))) == 2

    # One process resumes from the two parts, and two shards resume from the state of one process.
    resumed = trained_kinds.all_kinds(brief_suite, tmp_path / "two")
    torchrun(program, suite, tmp_path / "alone", 2, n_processes=2)
    for kind, trained in alone.items():
        check_crosscoder(resumed[kind].crosscoder, trained.crosscoder)
        check_crosscoder(CrossCoder.load(tmp_path / "alone" / f"crosscoder-{kind}.safetensors"), trained.crosscoder)


def check_crosscoder(actual: CrossCoder, expected: CrossCoder) -> None:
    """Compare two crosscoders' tensors, up to the rounding of sums in another order."""
    assert actual.facts() | {"scales": None} == expected.facts() | {"scales": None}
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(actual.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["L1", "BatchTopK 32"])
def test_memory_of_a_shard_is_that_of_one_process_divided_by_their_number(kind: str):
    rows = sharding.measure(kind, sharding.Dictionary(24_576, 2, 128, 64), (1, 2))
    bounded = [row for row in rows if row.other_name == "limit"]
    assert [row.met for row in bounded] == [True, True], bounded
