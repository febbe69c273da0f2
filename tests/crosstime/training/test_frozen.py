from __future__ import annotations

import pytest
import torch

from crosstime.errors import CrosscoderError
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.l1_config import L1Config
from crosstime.training.plant import plant, train_planted
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig

SETTINGS = {"n_features": 12, "steps": 5, "lr": 1e-2}
KINDS = [
    L1Config(**SETTINGS, frozen="decoder"),
    TopKConfig(**SETTINGS, k=2, frozen="decoder"),
    BatchTopKConfig(**SETTINGS, k=2, frozen="encoder"),
    JumpReLUConfig(**SETTINGS, frozen="encoder"),
    PerCheckpointJumpReLUConfig(**SETTINGS, frozen="decoder"),
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.kind}-{config.frozen}")
def test_frozen_weights_stay_as_they_were_and_the_others_are_trained(config):
    planted = plant(8, 2, 6, density=2.0)
    trained = train_planted(planted, config, batch_size=32)
    initial = config.crosscoder(planted.origin)
    frozen, other = ("W_enc", "W_dec") if config.frozen == "encoder" else ("W_dec", "W_enc")
    weights, expected = getattr(trained, frozen), getattr(initial, frozen)
    if config.kind == "jumprelu_per_checkpoint":
        # This kind chooses the norm of its decoder on the first batch
        weights, expected = weights / weights.norm(dim=-1, keepdim=True), expected / expected.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(weights, expected)
    else:
        assert torch.equal(weights, expected)
    assert not torch.equal(getattr(trained, other), getattr(initial, other))
    assert not torch.equal(trained.b_dec, initial.b_dec)


def test_the_encoder_beside_a_frozen_decoder_takes_the_steps_of_adam():
    """The first step of Adam has the size of the learning rate, whatever the gradient."""
    planted = plant(8, 2, 6, density=4.0, noise=0.1)
    config = L1Config(n_features=4, steps=1, lr=1e-2, lr_decay=0.0, clip=0.0, l1=0.0, frozen="decoder")
    trained, initial = train_planted(planted, config, batch_size=256), config.crosscoder(planted.origin)
    steps = (trained.W_enc - initial.W_enc).abs()
    assert steps[steps > 0].max().item() == pytest.approx(1e-2, rel=1e-2)


def test_records_have_the_key_only_where_something_is_frozen():
    assert "frozen" not in L1Config().record()
    assert L1Config(frozen="encoder").record()["frozen"] == "encoder"


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(CrosscoderError, match="'decodre' cannot be frozen: did you mean 'decoder'"):
        L1Config(frozen="decodre")
