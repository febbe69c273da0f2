"""Several crosscoders from one pass over the activations are those that are trained alone, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import crosstime as ct
from crosstime.activations.buffer import ActivationBuffer
from crosstime.errors import CrosscoderError
from crosstime.training.resume import Checkpointer
from tasks.agreement import sentences

STEPS = 6
DATA = ct.DataConfig(batch_size=32, sequence_length=12, buffer_tokens=96, validation=0.1)
CONFIGS = [
    ct.BatchTopKConfig(n_features=24, k=4, k_start=8, steps=STEPS, seed=0),
    ct.BatchTopKConfig(n_features=24, k=4, k_start=8, steps=STEPS, seed=1),
    ct.BatchTopKConfig(n_features=40, k=3, k_start=6, steps=STEPS, seed=0),
    ct.L1Config(n_features=16, steps=STEPS, seed=2, n_shared=4),
    ct.JumpReLUConfig(n_features=16, steps=STEPS, seed=3),
    ct.PerCheckpointJumpReLUConfig(n_features=16, steps=STEPS, seed=3),
]


@pytest.fixture(scope="module")
def text() -> list[str]:
    return list(sentences(120, seed=3))


def same(first: ct.TrainingResult, other: ct.TrainingResult) -> bool:
    weights, others = first.crosscoder.state_dict(), other.crosscoder.state_dict()
    return (
        first.crosscoder.origin == other.crosscoder.origin
        and first.log.equals(other.log)
        and all(torch.equal(weights[name], others[name]) for name in weights)
    )


def test_each_is_that_trained_alone(learning_suite: ct.Suite, text: list[str]):
    together = ct.train_several(learning_suite, "resid.1", text, CONFIGS, data=DATA)
    assert len(together) == len(CONFIGS)
    for config, result in zip(CONFIGS, together, strict=True):
        assert same(result, ct.train(learning_suite, "resid.1", text, config, data=DATA))
    assert not torch.equal(together[0].crosscoder.W_dec, together[1].crosscoder.W_dec)


def test_an_interrupted_training_of_several_resumes_to_the_same_bits(
    learning_suite: ct.Suite, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configs, path = CONFIGS[:4], tmp_path / "state.safetensors"
    whole = ct.train_several(learning_suite, "resid.1", text, configs, data=DATA)
    checkpointing = ct.Checkpointing(path, 2)
    save = Checkpointer.save

    def save_and_stop(self, trainers, batches, step, logs):
        save(self, trainers, batches, step, logs)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        ct.train_several(learning_suite, "resid.1", text, configs, data=DATA, checkpointing=checkpointing)
    monkeypatch.undo()
    folders = [ct.Logging(tmp_path / str(index)) for index in range(2)]
    resumed = ct.train_several(
        learning_suite, "resid.1", text, configs, data=DATA, checkpointing=checkpointing, logging=folders
    )
    assert all(same(first, other) for first, other in zip(resumed, whole, strict=True))
    for index in range(2):
        rows = (tmp_path / str(index) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(rows) == STEPS - 4

    # The state is of these configurations, and of no others
    with pytest.raises(CrosscoderError, match="was of 4 crosscoders, and this one is of 3"):
        ct.train_several(learning_suite, "resid.1", text, configs[:3], data=DATA, checkpointing=checkpointing)
    with pytest.raises(CrosscoderError, match="was of 4 crosscoders, and this one is of 1"):
        ct.train(learning_suite, "resid.1", text, configs[0], data=DATA, checkpointing=checkpointing)
    other = [*configs[:3], replace(configs[3], seed=9)]
    with pytest.raises(CrosscoderError, match="seed was 2 and is now 9"):
        ct.train_several(learning_suite, "resid.1", text, other, data=DATA, checkpointing=checkpointing)


@pytest.mark.parametrize(
    ("configs", "options", "sentence"),
    [
        ([], {}, "no configuration to train"),
        ([CONFIGS[0], replace(CONFIGS[1], steps=7)], {}, "the same number of steps, not 6, 7"),
        (CONFIGS[:2], {"compute": ct.Compute("cpu", feature_shards=2)}, "only with feature_shards = 1"),
        (CONFIGS[:1], {"logging": [ct.Logging()] * 2}, "1 configurations, and 2 places"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(learning_suite, text, configs, options, sentence):
    with pytest.raises(CrosscoderError, match=sentence):
        ct.train_several(learning_suite, "resid.1", text, configs, data=DATA, **options)


def test_memory_of_all_is_counted(learning_suite, text):
    huge = replace(CONFIGS[3], n_features=1 << 40, n_shared=0)
    with pytest.raises(CrosscoderError, match=r"in 2 crosscoders of .* checkpoints"):
        ct.train_several(learning_suite, "resid.1", text, [huge, replace(huge, seed=5)], data=DATA)


def test_activations_are_computed_once_for_all(learning_suite, text, monkeypatch):
    harvested, harvest = [], ActivationBuffer._harvest

    def counted(self, token_ids, indices):
        harvested.append(sum(map(len, token_ids)))
        return harvest(self, token_ids, indices)

    monkeypatch.setattr(ActivationBuffer, "_harvest", counted)
    ct.train(learning_suite, "resid.1", text, CONFIGS[0], data=DATA)
    alone = sum(harvested)
    harvested.clear()
    results = ct.train_several(learning_suite, "resid.1", text, CONFIGS[:4], data=DATA)
    assert sum(harvested) == alone
    assert results[0].tokens == results[3].tokens
