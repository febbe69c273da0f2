from __future__ import annotations

import dataclasses

import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.training.l1 import L1Trainer
from crosstime.training.l1_config import L1Config
from interventions import Site

C, D, F = 2, 5, 7
SCALES = torch.tensor([0.5, 2.0])


def make(config: L1Config, *, width: int = D, scales: torch.Tensor | None = SCALES) -> L1Trainer:
    origin = Origin("mine", tuple(f"step{c}" for c in range(C)), Site(0), width)
    return L1Trainer(config.crosscoder(origin, scales), config)


def batch(tokens: int = 16, seed: int = 0, width: int = D) -> torch.Tensor:
    return torch.randn(tokens, C, width, generator=torch.Generator().manual_seed(seed))


def loss_by_hand(crosscoder: CrossCoder, x: torch.Tensor, l1: float) -> tuple[float, float, float, float]:
    """Loss, l2, sparsity and l0 of the formula, with loops over tokens, checkpoints and features."""
    encoder, decoder, b_enc, b_dec, scales = (
        tensor.detach().double()
        for tensor in (crosscoder.W_enc, crosscoder.W_dec, crosscoder.b_enc, crosscoder.b_dec, crosscoder.scales)
    )
    l2 = sparsity = active = 0.0
    for token in x.double():
        codes = []
        for i in range(crosscoder.n_features):
            pre = b_enc[i] + sum(scales[c] * token[c] @ encoder[c, :, i] for c in range(C))
            codes.append(max(0.0, pre.item()))
        for c in range(C):
            reconstruction = (sum(codes[i] * decoder[i, c] for i in range(len(codes))) + b_dec[c]) / scales[c]
            l2 += ((scales[c] * token[c] - scales[c] * reconstruction) ** 2).sum().item()
        for i, code in enumerate(codes):
            sparsity += code * sum(decoder[i, c].norm().item() for c in range(C))
            active += code > 0
    n = len(x)
    return l2 / n + l1 * sparsity / n, l2 / n, sparsity / n, active / n


def test_the_loss_is_that_of_the_formula():
    config = L1Config(n_features=F, steps=100, l1=0.7, l1_warmup=0.0, decoder_norm=1.0)
    trainer, x = make(config), batch()
    with torch.no_grad():
        trainer.crosscoder.b_enc += 0.1 * torch.arange(F)
        trainer.crosscoder.b_dec += 0.3
    loss, l2, sparsity, l0 = loss_by_hand(trainer.crosscoder, x, 0.7)
    losses = trainer.losses(x, 0)
    assert losses.loss.item() == pytest.approx(loss, rel=1e-5)
    assert losses.l2.item() == pytest.approx(l2, rel=1e-5)
    assert losses.sparsity.item() == pytest.approx(sparsity, rel=1e-5)
    assert losses.l0.item() == pytest.approx(l0)
    assert trainer.loss(x, 0).item() == losses.loss.item()
    assert trainer.loss(x, 0, logging=True).losses["sparsity"] == losses.sparsity.item()


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (1, 0.2), (5, 1.0), (10, 2.0), (11, 2.0), (99, 2.0)])
def test_the_penalty_warms_up_linearly_and_stays(step: int, weight: float):
    trainer, x = make(L1Config(n_features=F, steps=100, l1=2.0, l1_warmup=0.1, decoder_norm=1.0)), batch()
    losses = trainer.losses(x, step)
    assert (losses.loss - losses.l2).item() == pytest.approx(weight * losses.sparsity.item(), rel=1e-4, abs=1e-5)


def test_the_learning_rate_falls_to_zero_over_the_last_fifth():
    trainer, x = make(L1Config(n_features=F, steps=10, lr=1e-3, lr_decay=0.2)), batch()
    rates = []
    for step in range(10):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.update(step, x)
    assert rates == pytest.approx([1e-3] * 9 + [0.5e-3])
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_without_decay_the_learning_rate_stays():
    trainer, x = make(L1Config(n_features=F, steps=4, lr=1e-3, lr_decay=0.0)), batch()
    for step in range(4):
        trainer.update(step, x)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_one_update_is_a_step_of_adam_on_the_clipped_gradient():
    config = L1Config(n_features=F, steps=100, l1=0.5, l1_warmup=0.0, lr=1e-2, clip=0.5, decoder_norm=1.0)
    trainer, x = make(config), batch()
    reference = make(config).crosscoder
    parameters = list(reference.parameters())
    make_loss = L1Trainer(reference, config).loss
    gradients = torch.autograd.grad(make_loss(x, 0), parameters)
    norm = torch.sqrt(sum((gradient.double() ** 2).sum() for gradient in gradients)).item()
    assert norm > 0.5
    trainer.update(0, x)
    for moved, start, gradient in zip(trainer.crosscoder.parameters(), parameters, gradients, strict=True):
        clipped = gradient.double() * 0.5 / norm
        # The first step of Adam: both moments are corrected to the gradient and its square.
        expected = start.detach().double() - 1e-2 * clipped / (clipped.abs() + 1e-8)
        torch.testing.assert_close(moved.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_clipping_changes_what_a_second_step_remembers():
    config = L1Config(n_features=F, steps=100, lr=1e-2, decoder_norm=1.0)
    loose, tight = make(dataclasses.replace(config, clip=1e6)), make(dataclasses.replace(config, clip=1e-3))
    for trainer in (loose, tight):
        trainer.update(0, batch(seed=1) * 10)
        trainer.update(1, batch(seed=2))
    assert not torch.allclose(loose.crosscoder.W_dec, tight.crosscoder.W_dec)


def test_tokens_since_a_feature_fired_are_counted():
    trainer = make(L1Config(n_features=F, steps=10, lr=1e-9))
    with torch.no_grad():
        trainer.crosscoder.b_enc.fill_(100.0)
        trainer.crosscoder.b_enc[2] = -100.0
    trainer.update(0, batch(16))
    trainer.update(1, batch(9))
    assert trainer.tokens_since_fired.tolist() == [0, 0, 25, 0, 0, 0, 0]
    with torch.no_grad():
        trainer.crosscoder.b_enc[2] = 100.0
    trainer.update(2, batch(4))
    assert trainer.tokens_since_fired.tolist() == [0] * F


def test_a_feature_is_dead_after_a_hundred_thousand_tokens_without_firing():
    trainer = make(L1Config(n_features=F, steps=10))
    assert trainer.get_logging_parameters() == {}
    trainer.update(0, batch())
    trainer.tokens_since_fired[:] = torch.tensor([0, 100_000, 100_001, 0, 0, 200_000, 0])
    metrics = trainer.get_logging_parameters()
    assert metrics["dead"] == pytest.approx(2 / F)
    assert set(metrics) == {"loss", "l2", "sparsity", "l0", "dead"}


def test_logged_numbers_are_those_of_the_last_update():
    trainer, x = make(L1Config(n_features=F, steps=10, l1_warmup=0.0)), batch()
    expected = trainer.losses(x, 0)
    loss = trainer.update(0, x)
    metrics = trainer.get_logging_parameters()
    assert loss == metrics["loss"] == expected.loss.item()
    assert metrics["l2"] == expected.l2.item()
    assert metrics["l0"] == expected.l0.item()


def test_config_holds_every_hyper_parameter_as_a_plain_value():
    settings = L1Config(n_features=F, steps=10, l1=0.25, seed=7)
    values = make(settings).config
    assert values == {"trainer_class": "L1Trainer", "dict_class": "CrossCoder", **settings.record()}
    assert values.items() > {"n_features": F, "steps": 10, "l1": 0.25, "seed": 7}.items()


def test_the_same_seed_and_data_give_the_same_weights():
    def trained(seed: int) -> CrossCoder:
        trainer = make(L1Config(n_features=F, steps=20, lr=1e-2, seed=seed))
        for step in range(20):
            trainer.update(step, batch(seed=step))
        return trainer.crosscoder

    first, repeated, different = trained(1), trained(1), trained(2)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, repeated.state_dict()[name]), name
    assert not torch.equal(first.W_dec, different.W_dec)


def test_training_finds_planted_sparse_features():
    """On data generated from 12 sparse directions, the loss falls and the decoder finds the directions."""
    width, planted = 16, 12
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(planted, C, width, generator=generator), dim=-1) * 3
    fires = (torch.rand(8192, planted, generator=generator) < 0.12).float()
    x = torch.einsum("ti,icd->tcd", fires * (1 + torch.rand(8192, planted, generator=generator)), directions)
    config = L1Config(n_features=32, steps=500, lr=3e-3, l1=0.05)
    trainer = make(config, width=width, scales=None)
    losses = []
    for step in range(config.steps):
        rows = torch.randint(len(x), (256,), generator=generator)
        losses.append(trainer.update(step, x[rows]))
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    learned = torch.nn.functional.normalize(trainer.crosscoder.W_dec.detach().flatten(1), dim=-1)
    similar = learned @ torch.nn.functional.normalize(directions.flatten(1), dim=-1).T
    assert (similar.amax(0) > 0.9).sum() >= planted - 2
    assert trainer.get_logging_parameters()["l0"] < 8


def test_a_crosscoder_of_another_size_is_rejected():
    crosscoder = make(L1Config(n_features=F, steps=10)).crosscoder
    with pytest.raises(CrosscoderError, match=f"is for 8 features, the crosscoder has {F}"):
        L1Trainer(crosscoder, L1Config(n_features=8, steps=10))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_features", 0),
        ("steps", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("clip", -1.0),
        ("decoder_norm", 0.0),
        ("l1", -0.1),
        ("l1_warmup", 1.5),
        ("lr_decay", -0.1),
    ],
)
def test_hyper_parameters_out_of_range_are_named(key: str, value: float):
    with pytest.raises(CrosscoderError, match=key):
        L1Config(**{key: value})


def test_the_defaults_are_those_of_the_paper():
    config = L1Config()
    assert (config.n_features, config.l1, config.l1_warmup, config.lr) == (16_384, 2.0, 0.05, 5e-5)
    assert (config.lr_decay, config.clip, config.decoder_norm, config.seed) == (0.2, 1.0, 0.08, 124)
