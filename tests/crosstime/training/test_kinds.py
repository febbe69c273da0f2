"""Every kind of crosscoder: saving, folding and sharing directions; no kind has a training mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.training.kinds import KINDS, kind_named
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

D, F = 6, 12
SMALL = {
    "l1": {"l1": 0.1},
    "topk": {"k": 3},
    "batchtopk": {"k": 3, "k_start": 6, "k_steps": 5},
    "jumprelu": {"sparsity": 0.1, "threshold": 0.2},
    "jumprelu_per_checkpoint": {"sparsity": 0.1, "threshold": 0.2, "bandwidth": 0.5, "norm_search": False},
}
SHARING = [kind for kind in KINDS if kind != "jumprelu_per_checkpoint"]


def config_of(kind: str, **options) -> TrainerConfig:
    return KINDS[kind](**{"n_features": F, "steps": 20, "lr": 1e-2, "decoder_norm": 0.5, **SMALL[kind], **options})


def crosscoder_of(kind: str, n_checkpoints: int = 3, *, trained: int = 8, **options) -> CrossCoder:
    config = config_of(kind, **options)
    origin = Origin("mine", tuple(f"step{c}" for c in range(n_checkpoints)), Site(0), D)
    scales = torch.linspace(0.3, 4.1, n_checkpoints)
    crosscoder = replace(config, seed=0).crosscoder(origin, scales)
    trainer = trainer_of(config, crosscoder)
    for step in range(trained):
        trainer.update(step, activations(32, n_checkpoints, seed=step))
    return crosscoder


def activations(tokens: int = 40, n_checkpoints: int = 3, seed: int = 99) -> torch.Tensor:
    return torch.randn(tokens, n_checkpoints, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n_checkpoints", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_checkpoints_encodes_decodes_and_decomposes(kind: str, n_checkpoints: int):
    crosscoder = crosscoder_of(kind, n_checkpoints)
    x = activations(n_checkpoints=n_checkpoints)
    codes = crosscoder.encode(x)
    assert 0 < (codes > 0).sum() < codes.numel()
    for c, part in enumerate(crosscoder.decompose(x.transpose(0, 1))):
        own = codes[:, c] if crosscoder.activation.gate_per_checkpoint else codes
        torch.testing.assert_close(part.codes.dense(), own.detach())
        torch.testing.assert_close(part.reconstruction, crosscoder(x)[:, c].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_folding_the_scales_leaves_the_function_the_same_bit_for_bit(kind: str, dtype: torch.dtype):
    crosscoder = crosscoder_of(kind).to(dtype)
    x = activations().to(dtype)
    folded = crosscoder.fold()
    assert torch.equal(folded.scales, torch.ones(3, dtype=dtype))
    assert not torch.equal(folded.W_dec, crosscoder.W_dec)
    assert torch.equal(folded.encode(x), crosscoder.encode(x))
    assert torch.equal(folded(x), crosscoder(x))
    assert torch.equal(folded.decoder_norms(), crosscoder.decoder_norms())
    assert torch.equal(folded.fold()(x), crosscoder(x))


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu", "jumprelu_per_checkpoint"])
def test_folding_the_weights_alone_would_change_which_features_fire(kind: str):
    crosscoder, x = crosscoder_of(kind), activations()
    folded = crosscoder.fold()
    folded.norms_before_folding = None
    assert not torch.equal(folded.encode(x) > 0, crosscoder.encode(x) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_the_same_in_training_mode_and_one_token_at_a_time(kind: str):
    crosscoder, x = crosscoder_of(kind), activations()
    expected = crosscoder.eval().encode(x)
    assert torch.equal(crosscoder.train().encode(x) > 0, expected > 0)
    alone = torch.cat([crosscoder.encode(token[None]) for token in x])
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_saved_and_loaded_with_thresholds_and_norms(tmp_path, kind: str, folded: bool):
    n_shared = 4 if kind in SHARING else 0
    crosscoder, x = crosscoder_of(kind, n_shared=n_shared), activations()
    crosscoder = crosscoder.fold() if folded else crosscoder
    crosscoder.save(tmp_path / "mine.safetensors")
    loaded = CrossCoder.load(tmp_path / "mine.safetensors")
    assert (loaded.activation.name, loaded.n_shared) == (crosscoder.activation.name, n_shared)
    assert loaded.activation.settings() == crosscoder.activation.settings()
    assert torch.equal(loaded.encode(x), crosscoder.encode(x))
    assert torch.equal(loaded.decoder_norms(), crosscoder.decoder_norms())


def test_a_file_of_an_unknown_kind_is_rejected(tmp_path):
    path = tmp_path / "mine.safetensors"
    crosscoder_of("topk").save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"activation": "gelu"})
    with pytest.raises(CrosscoderError, match=r"no activation function 'gelu'"):
        CrossCoder.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_products_train_nearly_as_well_and_keep_whole_weights(kind: str):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = config_of(kind)
        origin = Origin("mine", ("a", "b"), Site(0), D)
        crosscoder = CrossCoder(origin, F, activation=config.activation(), decoder_norm=0.5)
        trainer = trainer_of(config, crosscoder, precision=precision)
        losses[precision] = [trainer.update(step, activations(64, 2, seed=step)).item() for step in range(20)]
        assert crosscoder.W_dec.dtype == torch.float32
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


@pytest.mark.parametrize("kind", SHARING)
def test_shared_features_keep_one_direction_and_the_others_do_not(kind: str):
    crosscoder = crosscoder_of(kind, n_shared=5, trained=15)
    moved = crosscoder_of(kind, n_shared=5, trained=0).W_dec - crosscoder.W_dec
    shared, free = crosscoder.W_dec[:5], crosscoder.W_dec[5:]
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    assert not torch.isclose(free, free[:, :1].expand_as(free)).all(-1)[:, 1:].any()
    assert moved[:5].abs().max() > 1e-3


def test_a_shared_direction_learns_from_all_checkpoints():
    """The tied gradient is that of one direction used at every checkpoint."""
    config = config_of("l1", n_shared=F, clip=1e9)
    crosscoder = crosscoder_of("l1", trained=0, n_shared=F)
    x = activations()
    trainer = trainer_of(config, crosscoder)
    direction = crosscoder.W_dec[:, 0].detach().clone().requires_grad_()
    directions = crosscoder.W_dec
    crosscoder.W_dec = torch.nn.Parameter(torch.empty_like(directions))
    del crosscoder.W_dec
    crosscoder.W_dec = direction.unsqueeze(1).expand(-1, 3, -1)
    (expected,) = torch.autograd.grad(trainer.loss(x, 5), direction)
    crosscoder.W_dec = torch.nn.Parameter(directions.detach().clone())
    trainer.loss(x, 5).backward()
    crosscoder.tie_gradients()
    for c in range(3):
        torch.testing.assert_close(crosscoder.W_dec.grad[:, c], expected, rtol=1e-4, atol=1e-5)


def test_thirty_clipped_steps_with_shared_directions_are_those_of_one_parameter_for_each():
    """A shared direction counts once in the norm of the gradient: the reference stores it once."""
    n_shared, config = 5, config_of("l1", n_shared=5, clip=0.3, steps=60, l1=0.05)
    crosscoder = crosscoder_of("l1", trained=0, n_shared=n_shared)
    trainer = trainer_of(config, crosscoder)
    shared = torch.nn.Parameter(crosscoder.W_dec[:n_shared, 0].detach().clone())
    free = torch.nn.Parameter(crosscoder.W_dec[n_shared:].detach().clone())
    W_enc, b_enc, b_dec = (
        torch.nn.Parameter(getattr(crosscoder, name).detach().clone()) for name in ("W_enc", "b_enc", "b_dec")
    )
    parameters = [shared, free, W_enc, b_enc, b_dec]
    optimizer = torch.optim.Adam(parameters, lr=config.lr, betas=(0.9, 0.999))

    for step in range(30):
        x = activations() * crosscoder.scales.unsqueeze(-1)
        W_dec = torch.cat([shared.unsqueeze(1).expand(-1, 3, -1), free])
        codes = (torch.einsum("bcd,cdf->bf", x, W_enc) + b_enc).relu()
        error = (torch.einsum("bf,fcd->bcd", codes, W_dec) + b_dec - x).square().sum() / len(x)
        weight = config.l1 * min(1.0, step / (config.l1_warmup * config.steps)) if config.l1_warmup else config.l1
        loss = error + weight * (codes.mean(0) * W_dec.norm(dim=-1).sum(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * config.lr_factor(step)
        optimizer.step()
        trainer.update(step, activations())

    torch.testing.assert_close(crosscoder.W_dec[:n_shared, 0], shared, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(crosscoder.W_dec[n_shared:], free, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(crosscoder.W_enc, W_enc, rtol=1e-3, atol=1e-5)


def test_more_shared_features_than_features_are_rejected():
    with pytest.raises(CrosscoderError, match=rf"n_shared must be between 0 and n_features \({F}\), not 13"):
        config_of("l1", n_shared=F + 1)
    with pytest.raises(CrosscoderError, match="n_shared must be between 0 and the 12 features"):
        CrossCoder(Origin("mine", ("a",), Site(0), D), F, n_shared=-1)


def test_a_trainer_rejects_a_crosscoder_of_another_kind_or_a_folded_one():
    with pytest.raises(CrosscoderError, match="trainer of kind topk trains topk, but the crosscoder has relu"):
        trainer_of(config_of("topk"), crosscoder_of("l1"))
    with pytest.raises(CrosscoderError, match="folded crosscoder cannot be trained"):
        trainer_of(config_of("l1"), crosscoder_of("l1").fold())


def test_an_unknown_kind_is_named():
    with pytest.raises(CrosscoderError, match="no kind of crosscoder 'batch_topk': did you mean 'batchtopk'"):
        kind_named("batch_topk")
