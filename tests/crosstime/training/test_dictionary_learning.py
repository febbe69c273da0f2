"""dictionary_learning's training loop runs our trainers, which at one checkpoint reach the losses of its trainers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from crosstime.activations.buffer import ActivationBuffer
from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.suites.suite import Suite
from crosstime.training.kinds import KINDS
from crosstime.training.l1_config import L1Config
from crosstime.training.topk_config import BatchTopKConfig
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

training = pytest.importorskip("dictionary_learning.training", reason="dictionary-learning and wandb are not installed")
from dictionary_learning.trainers import batch_top_k, standard  # noqa: E402

pytestmark = pytest.mark.slow
D, F, PLANTED, K, STEPS, BATCH = 32, 128, 96, 6, 400, 256


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_of_dictionary_learning_trains_every_kind_on_our_buffer(kind: str, suite: Suite, tmp_path, capsys):
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(1, 300, (60, 8), generator=generator)
    buffer = ActivationBuffer(suite, Site(0), iter(rows), DataConfig(batch_size=32, buffer_tokens=200))
    options = {"k": 4} if kind == "topk" else {"k": 4, "k_start": None} if kind == "batchtopk" else {}
    config = KINDS[kind](n_features=32, steps=10, lr=1e-2, **options)
    origin = Origin(suite.name, suite.revisions, Site(0), suite.d_model)
    crosscoder = CrossCoder(origin, 32, buffer.scales, activation=config.activation(), seed=1)
    before = crosscoder.W_dec.detach().clone()

    # Train with its loop.
    trainer_class = type(trainer_of(config, crosscoder))
    training.trainSAE(
        data=buffer,
        trainer_configs=[{"trainer": trainer_class, "crosscoder": crosscoder, "config": config}],
        steps=10,
        device="cpu",
        save_dir=str(tmp_path),
        verbose=True,
        log_steps=5,
    )
    assert not torch.equal(crosscoder.W_dec, before)

    # It logs and saves as with its own trainers.
    assert "Step 5: L0 =" in capsys.readouterr().out
    saved = json.loads((tmp_path / "trainer_0" / "config.json").read_text())
    assert saved["trainer"]["trainer_class"] == trainer_class.__name__
    weights = torch.load(tmp_path / "trainer_0" / "ae.pt", weights_only=True)
    assert torch.equal(weights["W_dec"], crosscoder.W_dec)


class OneCheckpoint:
    """Adapts a trainer to batches without an axis of checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.ae, self.config = trainer, trainer.ae, trainer.config

    def update(self, step: int, x: torch.Tensor) -> None:
        self.trainer.update(step, x.unsqueeze(1))


def planted(tokens: int, seed: int) -> torch.Tensor:
    """Tokens that are sparse sums of fixed directions plus a little noise."""
    directions = torch.randn(PLANTED, D, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    fires = (torch.rand(tokens, PLANTED, generator=generator) < 0.05).float()
    sizes = 1 + torch.rand(tokens, PLANTED, generator=generator)
    return (fires * sizes) @ directions + 0.3 * torch.randn(tokens, D, generator=generator) + 0.5


def with_equal_weights(reference: Any, config: TrainerConfig, bias: torch.Tensor) -> tuple[Any, Trainer]:
    """A reference trainer, which subtracts the decoder bias before encoding, and ours with equal weights."""
    crosscoder = CrossCoder(Origin("planted", ("one",), Site(0), D), F, activation=config.activation())
    encoder = reference.ae.encoder.weight.detach().T
    with torch.no_grad():
        crosscoder.W_enc.copy_(encoder.unsqueeze(0))
        crosscoder.W_dec.copy_(reference.ae.decoder.weight.T.unsqueeze(1))
        crosscoder.b_enc.copy_(-bias @ encoder)
        crosscoder.b_dec.copy_(bias.unsqueeze(0))
    return reference, trainer_of(config, crosscoder)


def settings(seed: int) -> dict[str, Any]:
    return {
        "steps": STEPS,
        "activation_dim": D,
        "dict_size": F,
        "layer": 0,
        "lm_name": "planted",
        "lr": 3e-3,
        "warmup_steps": 0,
        "decay_start": int(0.8 * STEPS),
        "seed": seed,
        "device": "cpu",
    }


def topk_pair(seed: int) -> tuple[Any, Trainer]:
    reference = batch_top_k.BatchTopKTrainer(k=K, **settings(seed))
    config = BatchTopKConfig(n_features=F, steps=STEPS, lr=3e-3, k=K, k_start=None)
    return with_equal_weights(reference, config, reference.geometric_median(planted(BATCH, 1)))


def l1_pair(seed: int) -> tuple[Any, Trainer]:
    reference = standard.StandardTrainer(l1_penalty=0.5, sparsity_warmup_steps=STEPS // 20, **settings(seed))
    # Its first step normalises the directions, which ours would reach only after many steps.
    reference.ae.decoder.weight.data /= reference.ae.decoder.weight.data.norm(dim=0)
    return with_equal_weights(reference, L1Config(n_features=F, steps=STEPS, lr=3e-3, l1=0.5, clip=1e9), torch.zeros(D))


@pytest.mark.parametrize("pair", [l1_pair, topk_pair])
def test_the_loss_is_that_of_dictionary_learnings_trainers_on_the_same_data(pair: Callable):
    """Compare means over four seeds, because with a single one either trainer may find a minimum better by up to 3 %.

    dictionary_learning keeps decoder norms at one and subtracts a bias first; both parametrisations express the same
    functions.
    """
    held_out, ratios = planted(4096, 10_000), []
    for seed in (3, 4, 5, 6):
        reference, trainer = pair(seed)
        trainers = [
            {"trainer": lambda reference=reference: reference},
            {"trainer": lambda trainer=trainer: OneCheckpoint(trainer)},
        ]
        data = (planted(BATCH, step) for step in range(1, STEPS + 1))
        training.trainSAE(data=data, trainer_configs=trainers, steps=STEPS, device="cpu")
        with torch.no_grad():
            loss, expected = trainer.loss(held_out.unsqueeze(1), STEPS), reference.loss(held_out, STEPS - 1)
        ratios.append(loss.item() / expected.item())
    assert ratios == pytest.approx([1] * len(ratios), abs=0.05)
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.02)


def test_batchtopk_takes_the_same_steps_once_the_three_differences_are_removed(monkeypatch):
    """The differences are unit decoder norms, a bias before the encoder, and selection by codes without norms."""

    def encode(x: torch.Tensor, return_active: bool = False, use_threshold: bool = True) -> tuple[torch.Tensor, ...]:
        codes = reference.ae.encoder(x).relu()
        largest = codes.flatten().topk(K * len(x))
        selected_codes = torch.zeros(codes.numel()).scatter(0, largest.indices, largest.values).reshape(codes.shape)
        return selected_codes, selected_codes.sum(0) > 0, codes

    reference, trainer = topk_pair(3)
    monkeypatch.setattr(batch_top_k, "set_decoder_norm_to_unit_norm", lambda weight, *_: weight.data)
    monkeypatch.setattr(
        batch_top_k, "remove_gradient_parallel_to_decoder_directions", lambda _, gradient, *__: gradient
    )
    monkeypatch.setattr(reference.ae, "encode", encode)
    monkeypatch.setattr(trainer.crosscoder, "selection_norms", lambda: torch.ones(F))
    reference.ae.encoder.bias.data.copy_(trainer.crosscoder.b_enc.data)
    for step in range(60):
        x = planted(BATCH, step + 1)
        assert trainer.update(step, x.unsqueeze(1)).item() == pytest.approx(reference.update(step, x), rel=1e-4), step
