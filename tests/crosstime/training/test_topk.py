"""TopK, BatchTopK and JumpReLU minimise the losses of their formulas, with sparse and with dense sums."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RecipeError
from crosstime.runs.recipe.build import crosscoder_table
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.topk import TopKTrainer
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

B, C, D, F, K = 24, 2, 5, 20, 3
NEVER, ALWAYS = {"cpu": 0.0}, {"cpu": 1.1}


def make(config: TrainerConfig, dtype: torch.dtype = torch.float64) -> Trainer:
    origin = Origin("mine", tuple(f"step{c}" for c in range(C)), Site(0), D)
    crosscoder = CrossCoder(
        origin, F, torch.tensor([0.5, 2.0]), activation=config.activation(), decoder_norm=config.decoder_norm, seed=1
    )
    with torch.no_grad():
        crosscoder.W_dec *= torch.rand(F, C, 1, generator=torch.Generator().manual_seed(2)) + 0.5
        crosscoder.b_enc += 0.1 * torch.randn(F, generator=torch.Generator().manual_seed(3))
        crosscoder.b_dec += 0.2
    return trainer_of(config, crosscoder.to(dtype))


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(B, C, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_formula(crosscoder: CrossCoder, x: Tensor, k: int, *, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Squared error, codes and reconstruction error, with masks over dense codes."""
    scaled = x * crosscoder.scales.reshape(-1, 1)
    codes = (torch.einsum("bcd,cdf->bf", scaled, crosscoder.W_enc) + crosscoder.b_enc).relu()
    weighted = (codes * crosscoder.W_dec.norm(dim=-1).sum(1)).detach()
    rows = weighted.reshape(1, -1) if shared else weighted
    is_selected = (
        torch.zeros_like(rows).scatter_(1, rows.topk(k * B if shared else k).indices, 1.0).reshape(codes.shape)
    )
    error = scaled - torch.einsum("bf,fcd->bcd", codes * is_selected, crosscoder.W_dec) - crosscoder.b_dec
    return error.square().sum((1, 2)).mean(), codes, error


@pytest.mark.parametrize("below", [NEVER, ALWAYS])
@pytest.mark.parametrize("shared", [False, True])
def test_loss_and_gradients_are_those_of_masked_dense_codes(shared: bool, below: dict, monkeypatch):
    monkeypatch.setattr("crosstime.training.topk.SPARSE_BELOW", below)
    options = {"n_features": F, "steps": 10, "k": K, "k_start": None, "decoder_norm": 0.7}
    trainer = make((BatchTopKConfig if shared else TopKConfig)(**options))
    crosscoder, x = trainer.crosscoder, batch()
    loss = trainer.losses(x, 0).loss
    expected, codes, _ = by_formula(crosscoder, x, K, shared=shared)
    torch.testing.assert_close(loss, expected)
    weights = dict(crosscoder.named_parameters())
    gradients = torch.autograd.grad(loss, list(weights.values()))
    expected_gradients = torch.autograd.grad(expected, list(weights.values()))
    for name, gradient, expected_gradient in zip(weights, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, msg=lambda text, name=name: f"{name}: {text}")
    if not shared:
        assert trainer.losses(x, 0).l0.item() == pytest.approx((codes > 0).sum(1).clamp(max=K).double().mean().item())


@pytest.mark.parametrize("below", [NEVER, ALWAYS])
def test_auxk_is_the_fraction_of_the_errors_variance_that_dead_features_do_not_explain(below: dict, monkeypatch):
    monkeypatch.setattr("crosstime.training.topk.SPARSE_BELOW", below)
    config = TopKConfig(n_features=F, steps=10, k=K, auxk=0.25, dead_after=10**6, decoder_norm=0.7)
    trainer = make(config)
    assert isinstance(trainer, TopKTrainer)
    crosscoder, x = trainer.crosscoder, batch()
    dead = torch.arange(F) % 3 == 0
    trainer.tokens_since_fired[dead] = 10**6
    trainer._update_statistics(trainer._forward_pass(trainer._scaled(x), 0), 0)
    assert trainer.n_dead == int(dead.sum())

    # The D/2 dead features with the largest codes reconstruct the error.
    l2, codes, error = by_formula(crosscoder, x, K, shared=False)
    weighted = (codes * crosscoder.W_dec.norm(dim=-1).sum(1)).detach() * dead
    is_selected = torch.zeros_like(weighted).scatter_(1, weighted.topk(D // 2).indices, 1.0) * dead
    error = error.detach()
    remaining_error = error - torch.einsum("bf,fcd->bcd", codes * is_selected, crosscoder.W_dec)
    variance = (error - error.mean(0)).square().sum((1, 2)).mean()
    expected = l2 + 0.25 * remaining_error.square().sum((1, 2)).mean() / variance

    # Loss and gradients are the same.
    loss = trainer.losses(x, 0).loss
    torch.testing.assert_close(loss, expected)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(loss, [crosscoder.W_enc, crosscoder.W_dec, crosscoder.b_enc]),
        torch.autograd.grad(expected, [crosscoder.W_enc, crosscoder.W_dec, crosscoder.b_enc]),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected_gradient)


def test_the_inference_threshold_remembers_the_smallest_codes_that_were_kept():
    config = BatchTopKConfig(
        n_features=F, steps=10, k=K, k_start=5, k_steps=2, lr=1e-9, threshold_memory=0.75, decoder_norm=0.7
    )
    trainer = make(config)
    expected = 0.0
    for step, k in enumerate([5, 4, 3, 3]):
        assert config.k_at(step) == k
        x = batch(step)
        _, codes, _ = by_formula(trainer.crosscoder, x, k, shared=True)
        weighted = codes * trainer.crosscoder.W_dec.norm(dim=-1).sum(1)
        smallest = weighted.flatten().topk(k * B).values.min().item()
        expected = smallest if step < 2 else 0.75 * expected + 0.25 * smallest
        trainer.update(step, x)
        assert trainer.crosscoder.activation.threshold.item() == pytest.approx(expected, rel=1e-6)


def test_jumprelu_costs_tanh_of_norm_weighted_codes():
    config = JumpReLUConfig(
        n_features=F, steps=10, sparsity=0.8, sparsity_warmup=0.0, steepness=3.0, threshold=0.2, decoder_norm=0.7
    )
    trainer = make(config)
    crosscoder, x = trainer.crosscoder, batch()
    scaled = x * crosscoder.scales.reshape(-1, 1)
    codes = crosscoder.encode_scaled(scaled)
    norms = crosscoder.W_dec.norm(dim=-1).sum(1)
    assert (
        0 < (codes > 0).sum() < ((torch.einsum("bcd,cdf->bf", scaled, crosscoder.W_enc) + crosscoder.b_enc) > 0).sum()
    )

    # The loss by its formula, and gradients by autograd.
    error = scaled - torch.einsum("bf,fcd->bcd", codes, crosscoder.W_dec) - crosscoder.b_dec
    expected = error.square().sum((1, 2)).mean() + 0.8 * torch.tanh(3.0 * codes * norms).sum(1).mean()
    loss = trainer.losses(x, 5).loss
    torch.testing.assert_close(loss, expected)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(loss, list(crosscoder.parameters())),
        torch.autograd.grad(expected, list(crosscoder.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize(("n_features", "k", "start"), [(256, 8, 256), (16_384, 8, 1_000), (4_096, 2_000, 2_000)])
def test_the_default_annealing_of_batchtopk_fits_every_dictionary(n_features: int, k: int, start: int):
    config = BatchTopKConfig(n_features=n_features, k=k)
    assert [config.k_at(0), config.k_at(config.k_steps)] == [start, k]


def test_an_annealing_from_more_features_than_there_are_is_refused():
    with pytest.raises(CrosscoderError, match=r"k_start must be between k \(8\) and n_features \(256\), not 300"):
        BatchTopKConfig(n_features=256, k=8, k_start=300)


@pytest.mark.parametrize(
    ("n_features", "k", "k_start"), [(64, 8, 64), (999, 8, 999), (1_500, 8, 1_000), (3_000, 1_200, 1_200)]
)
def test_the_default_of_k_start_fits_every_dictionary(n_features: int, k: int, k_start: int):
    assert BatchTopKConfig(n_features=n_features, k=k).k_start == k_start
    assert crosscoder_table({"kind": "batchtopk", "n_features": n_features, "k": k}).k_start == k_start


@pytest.mark.parametrize(("n_features", "k", "k_start"), [(256, 8, 1_000), (999, 8, 1_000), (3_000, 1_200, 1_000)])
def test_a_named_k_start_that_does_not_fit_is_refused_even_if_it_is_the_number_of_the_default(
    n_features: int, k: int, k_start: int
):
    sentence = rf"k_start must be between k \({k}\) and n_features \({n_features}\), not 1000"
    with pytest.raises(CrosscoderError, match=sentence):
        BatchTopKConfig(n_features=n_features, k=k, k_start=k_start)
    with pytest.raises(RecipeError, match=rf"\[crosscoder\] {sentence}"):
        crosscoder_table({"kind": "batchtopk", "n_features": n_features, "k": k, "k_start": k_start})


def test_a_named_k_start_that_fits_is_that_of_the_default():
    named, default = BatchTopKConfig(k=8, k_start=1_000), BatchTopKConfig(k=8)
    assert named == default
    # The record, on which keys of runs depend, is the same text
    assert json.dumps(named.record()) == json.dumps(default.record())


def test_a_copy_of_a_configuration_of_another_size_keeps_the_default_and_not_a_named_k_start():
    assert replace(BatchTopKConfig(k=8), n_features=64).k_start == 64
    assert replace(replace(BatchTopKConfig(k=8), n_features=64), n_features=5_000).k_start == 1_000
    with pytest.raises(CrosscoderError, match="k_start"):
        replace(BatchTopKConfig(k=8, k_start=1_000), n_features=64)
