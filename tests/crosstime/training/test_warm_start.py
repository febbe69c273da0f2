"""Training that starts from a crosscoder, and chains of autoencoders."""

from __future__ import annotations

import pytest
import torch

import crosstime as ct
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.train_chain import train_chain
from crosstime.training.trainer_of import trainer_of
from interventions import Site
from tasks.agreement import sentences

DATA = ct.DataConfig(batch_size=32, sequence_length=8)
STILL = {"n_features": 12, "steps": 1, "lr": 1e-30}
TEXT = list(sentences(150, seed=1))


@pytest.mark.parametrize(
    "config",
    [
        L1Config(**STILL),
        BatchTopKConfig(**STILL, k=3),
        PerCheckpointJumpReLUConfig(**STILL),
    ],
    ids=lambda config: config.kind,
)
def test_training_that_goes_nowhere_returns_the_start(brief_suite, config):
    """With a learning rate of nothing, the weights are those of the start, and the scales those of the data."""
    start = config.crosscoder(ct.CrossCoder(origin_of(brief_suite), 1).origin)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(start.named_parameters()):
            if name != "activation.log_threshold":
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    checkpointing = ct.Checkpointing(start=start)
    trained = ct.train(brief_suite, Site(0), TEXT, config, data=DATA, checkpointing=checkpointing).crosscoder
    for name, tensor in start.named_parameters():
        torch.testing.assert_close(trained.get_parameter(name), tensor, atol=1e-6, rtol=1e-5)
    cold = ct.train(brief_suite, Site(0), TEXT, config, data=DATA).crosscoder
    assert torch.equal(trained.scales, cold.scales)
    assert not torch.allclose(cold.W_dec, start.W_dec)
    assert trained.origin.training["start"]["revisions"] == list(brief_suite.revisions)
    assert "start" not in cold.origin.training


def origin_of(suite):
    from crosstime.crosscoders.origin import Origin

    return Origin(suite.name, suite.revisions, Site(0), suite.d_model)


def test_the_first_loss_is_that_of_the_start(learning_suite):
    """The first step of a warm training is taken on the start's own loss."""
    config = L1Config(n_features=12, steps=40, lr=1e-2, l1=0.1)
    first = ct.train(learning_suite, Site(0), TEXT, config, data=DATA)
    again = ct.train(
        learning_suite, Site(0), TEXT, config, data=DATA, checkpointing=ct.Checkpointing(start=first.crosscoder)
    )
    assert again.log.l2.iloc[0] < 0.8 * first.log.l2.iloc[0]
    trainer = trainer_of(config, first.crosscoder)
    assert trainer.crosscoder is first.crosscoder


def test_a_chain_is_training_after_training(learning_suite):
    config = L1Config(n_features=12, steps=6, lr=1e-2, l1=0.1)
    chain = train_chain(learning_suite, Site(0), TEXT, config, data=DATA)
    before: CrossCoder | None = None
    for revision, link in zip(learning_suite.revisions, chain, strict=True):
        alone = learning_suite.select([revision])
        by_hand = ct.train(alone, Site(0), TEXT, config, data=DATA, checkpointing=ct.Checkpointing(start=before))
        assert link.origin.revisions == (revision,)
        for name, tensor in by_hand.crosscoder.state_dict().items():
            assert torch.equal(link.state_dict()[name], tensor)
        before = by_hand.crosscoder

    # An autoencoder that is kept is not trained again
    asked = []
    by_revision = dict(zip(learning_suite.revisions, chain, strict=True))

    def keep(revision, trained):
        asked.append(revision)
        return by_revision[revision]

    assert train_chain(learning_suite, Site(0), TEXT, config, data=DATA, keep=keep) == chain
    assert asked == list(learning_suite.revisions)


def test_a_resumed_training_starts_from_the_same_crosscoder(brief_suite, tmp_path):
    config = L1Config(n_features=12, steps=4, lr=1e-2)
    first, second = (config.crosscoder(origin_of(brief_suite)) for _ in range(2))
    with torch.no_grad():
        second.b_enc += 1
    path = tmp_path / "state.safetensors"
    saved = ct.Checkpointing(path, every=2, start=first)
    ct.train(brief_suite, Site(0), TEXT, config, data=DATA, checkpointing=saved)
    with pytest.raises(CrosscoderError, match="start was"):
        ct.train(
            brief_suite, Site(0), TEXT, config, data=DATA, checkpointing=ct.Checkpointing(path, every=2, start=second)
        )


def test_a_start_that_does_not_fit_is_refused(brief_suite):
    origin = origin_of(brief_suite)
    config = L1Config(n_features=12, steps=1)

    def train_from(start: CrossCoder, shards: int = 1) -> None:
        compute = ct.Compute(feature_shards=shards)
        ct.train(brief_suite, Site(0), TEXT, config, checkpointing=ct.Checkpointing(start=start), compute=compute)

    with pytest.raises(CrosscoderError, match="12 features, and the crosscoder to start from has 13"):
        train_from(CrossCoder(origin, 13))
    with pytest.raises(CrosscoderError, match="starts from a crosscoder with relu, not batchtopk"):
        train_from(BatchTopKConfig(n_features=12, k=2).crosscoder(origin))
    with pytest.raises(CrosscoderError, match="0 shared features, and the crosscoder to start from 2"):
        train_from(CrossCoder(origin, 12, n_shared=2))
    with pytest.raises(CrosscoderError, match="folded"):
        train_from(CrossCoder(origin, 12).fold())
    with pytest.raises(CrosscoderError, match="2 checkpoints, and the crosscoder to start from has 1"):
        train_from(CrossCoder(origin_of(brief_suite.select(brief_suite.revisions[:1])), 12))
    with pytest.raises(CrosscoderError, match="feature_shards = 1"):
        train_from(CrossCoder(origin, 12), shards=2)
