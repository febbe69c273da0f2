"""A training run that is interrupted and resumed ends with the weights of an uninterrupted one.

Activations come from a table in place of models, which are irrelevant here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from table_activations import use_table

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.suites.suite import Suite
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk import TopKTrainer
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.train import train
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(200, seed=3))
DATA = DataConfig(batch_size=32, sequence_length=8, buffer_tokens=200)
SHARED = {"n_features": 12, "steps": 40, "lr": 3e-3, "lr_warmup": 0.2, "seed": 5}
CONFIGS = {
    "l1": L1Config(l1=0.05, **SHARED),
    "batchtopk": BatchTopKConfig(k=1, k_start=2, k_steps=20, dead_after=64, **SHARED | {"n_features": 96}),
    "jumprelu": JumpReLUConfig(sparsity=0.5, **SHARED),
    "jumprelu_per_checkpoint": PerCheckpointJumpReLUConfig(**SHARED),
}


class Stop(Exception):
    """Stands for a crash of the machine."""


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


@pytest.fixture(autouse=True)
def _activations_of_a_table(monkeypatch) -> None:
    table = torch.randn(400, 2, 16, generator=torch.Generator().manual_seed(7))

    use_table(monkeypatch, table)


def interrupted(
    suite: Suite, config: TrainerConfig, state: Path, monkeypatch, at: int, data: DataConfig = DATA
) -> None:
    update = Trainer.update

    def failing(self: Trainer, step: int, x: torch.Tensor) -> torch.Tensor:
        if step == at:
            raise Stop
        return update(self, step, x)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", failing)
        with pytest.raises(Stop):
            train(suite, Site(0), TEXT, config, data=data, checkpointing=Checkpointing(state, 7))


def same(crosscoder: CrossCoder, expected: CrossCoder) -> bool:
    return all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in crosscoder.state_dict().items())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_resumed_training_ends_with_the_same_weights_and_log(kind: str, suite: Suite, tmp_path, monkeypatch):
    uninterrupted = train(suite, Site(0), TEXT, CONFIGS[kind], data=DATA)
    state = tmp_path / "state.safetensors"
    for at in (9, 23):  # two interruptions, neither of them just after a saving
        interrupted(suite, CONFIGS[kind], state, monkeypatch, at)
    resumed = train(suite, Site(0), TEXT, CONFIGS[kind], data=DATA, checkpointing=Checkpointing(state, 7))
    assert same(resumed.crosscoder, uninterrupted.crosscoder)
    assert resumed.log.equals(uninterrupted.log)
    assert resumed.tokens == uninterrupted.tokens


def test_resuming_takes_only_the_steps_that_are_missing(suite: Suite, tmp_path, monkeypatch):
    state = tmp_path / "state.safetensors"
    interrupted(suite, CONFIGS["l1"], state, monkeypatch, 23)
    steps: list[int] = []
    update = Trainer.update
    monkeypatch.setattr(Trainer, "update", lambda self, step, x: steps.append(step) or update(self, step, x))
    train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA, checkpointing=Checkpointing(state, 7))
    assert steps == list(range(21, 40))


def test_auxk_is_active_in_the_training_that_is_resumed(suite: Suite, monkeypatch):
    dead_counts: list[int] = []
    auxk = TopKTrainer._auxk
    monkeypatch.setattr(
        TopKTrainer, "_auxk", lambda self, *arguments: dead_counts.append(self.n_dead) or auxk(self, *arguments)
    )
    train(suite, Site(0), TEXT, CONFIGS["batchtopk"], data=DATA)
    assert dead_counts


def test_another_configuration_is_rejected_and_the_differences_listed(suite: Suite, tmp_path, monkeypatch):
    state = tmp_path / "state.safetensors"
    interrupted(suite, CONFIGS["l1"], state, monkeypatch, 9)
    checkpointing = Checkpointing(state)

    # Other hyper-parameters.
    config = L1Config(l1=0.07, **SHARED | {"steps": 50})
    message = r"interrupted at step 7 .*l1 was 0\.05 and is now 0\.07; steps was 40"
    with pytest.raises(CrosscoderError, match=message) as caught:
        train(suite, Site(0), TEXT, config, data=DATA, checkpointing=checkpointing)
    assert "batch_size" not in str(caught.value)

    # Another buffer.
    data = replace(DATA, buffer_tokens=300)
    with pytest.raises(CrosscoderError, match=r"buffer_tokens was 200 and is now 300"):
        train(suite, Site(0), TEXT, CONFIGS["l1"], data=data, checkpointing=checkpointing)


def test_another_text_is_rejected(suite: Suite, tmp_path, monkeypatch):
    state = tmp_path / "state.safetensors"
    interrupted(suite, CONFIGS["l1"], state, monkeypatch, 9)
    with pytest.raises(CrosscoderError, match="text is not the one that training was interrupted on"):
        train(
            suite,
            Site(0),
            [line + " yes" for line in TEXT],
            CONFIGS["l1"],
            data=DATA,
            checkpointing=Checkpointing(state),
        )


def test_a_damaged_state_is_named(suite: Suite, tmp_path, monkeypatch):
    state = tmp_path / "state.safetensors"
    interrupted(suite, CONFIGS["l1"], state, monkeypatch, 9)
    state.write_bytes(state.read_bytes()[:-9])
    with pytest.raises(CrosscoderError, match=r"Cannot resume training: .*state\.safetensors is not a valid"):
        train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA, checkpointing=Checkpointing(state))
    CrossCoder.save(train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA).crosscoder, state)
    with pytest.raises(CrosscoderError, match="is not the state of a training"):
        train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA, checkpointing=Checkpointing(state))


@pytest.mark.parametrize("poison", [float("nan"), 1e20])
def test_a_loss_that_explodes_stops_training_with_its_step_and_keeps_the_last_state(
    poison: float, suite: Suite, tmp_path, monkeypatch
):
    state = tmp_path / "state.safetensors"
    update = Trainer.update

    def poisoned(self: Trainer, step: int, x: torch.Tensor) -> torch.Tensor:
        return update(self, step, x * poison if step == 16 else x)

    monkeypatch.setattr(Trainer, "update", poisoned)
    with pytest.raises(CrosscoderError, match=r"diverged at step 16: .*last good state is in .*state\.safetensors"):
        train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA, checkpointing=Checkpointing(state, 7))
    monkeypatch.setattr(Trainer, "update", update)
    resumed = train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA, checkpointing=Checkpointing(state, 7))
    assert same(resumed.crosscoder, train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA).crosscoder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_a_buffer_of_other_precision_trains_and_resumes(dtype: str, suite: Suite, tmp_path, monkeypatch):
    state, data = tmp_path / "state.safetensors", replace(DATA, buffer_dtype=dtype)
    interrupted(suite, CONFIGS["l1"], state, monkeypatch, 9, data)
    resumed = train(suite, Site(0), TEXT, CONFIGS["l1"], data=data, checkpointing=Checkpointing(state)).crosscoder
    assert same(resumed, train(suite, Site(0), TEXT, CONFIGS["l1"], data=data).crosscoder)
    assert not same(resumed, train(suite, Site(0), TEXT, CONFIGS["l1"], data=DATA).crosscoder)


def test_an_interval_below_one_step_is_rejected():
    with pytest.raises(CrosscoderError, match=r"Checkpointing\.every must be at least 1 step, not 0"):
        Checkpointing(every=0)
