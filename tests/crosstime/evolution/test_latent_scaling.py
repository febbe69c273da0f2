"""Latent scaling against least squares, and on planted cases of what it is there to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.evolution.latent_scaling import latent_scaling, scale_latents
from interventions import Site


@pytest.fixture
def crosscoder() -> CrossCoder:
    crosscoder = CrossCoder(
        Origin("mine", ("a", "b", "c"), Site(0), 6), 5, torch.tensor([1.0, 0.5, 3.0]), decoder_norm=1.0
    )
    with torch.no_grad():
        crosscoder.b_dec.copy_(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)))
        crosscoder.W_dec.mul_(torch.rand(5, 3, 1, generator=torch.Generator().manual_seed(2)) + 0.2)
    return crosscoder


def activations(n_tokens: int = 50) -> torch.Tensor:
    return torch.randn(3, n_tokens, 6, generator=torch.Generator().manual_seed(0))


def test_betas_are_those_of_least_squares(crosscoder):
    x = activations()
    decompositions = crosscoder.decompose(x)
    scaling = scale_latents(crosscoder, decompositions)
    codes = decompositions[0].codes.dense().double().numpy()
    weights, scales = crosscoder.W_dec.detach().double().numpy(), crosscoder.scales.double().numpy()
    bias = crosscoder.b_dec.detach().double().numpy()
    for i in range(5):
        peak = np.linalg.norm(weights[i], axis=1).argmax()
        assert scaling.peak[i] == peak
        column = np.outer(codes[:, i], weights[i, peak]).reshape(-1, 1)
        for c in range(3):
            reconstruction = codes @ weights[:, c]
            without = np.delete(codes, i, 1) @ np.delete(weights[:, c], i, 0)
            residual = x[c].double().numpy() * scales[c] - bias[c] - without
            for name, target in (("reconstruction", reconstruction), ("error", residual)):
                (beta,), *_ = np.linalg.lstsq(column, target.reshape(-1), rcond=None)
                assert getattr(scaling, name)[i, c].item() == pytest.approx(beta, abs=1e-5), (name, i, c)


def test_folding_changes_nothing(crosscoder):
    x = activations()
    plain, folded = (scale_latents(version, version.decompose(x)) for version in (crosscoder, crosscoder.fold()))
    for name in ("reconstruction", "error"):
        torch.testing.assert_close(folded.ratio(name), plain.ratio(name), atol=1e-4, rtol=1e-4, equal_nan=True)


def two_checkpoints(late: torch.Tensor, early: torch.Tensor, extra: torch.Tensor | None = None) -> CrossCoder:
    """One feature that reads the first axis at both checkpoints, and perhaps a second one with another decoder."""
    decoders = [torch.stack([early, late])] + ([] if extra is None else [extra])
    crosscoder = CrossCoder(Origin("mine", ("early", "late"), Site(0), 4), len(decoders))
    with torch.no_grad():
        crosscoder.W_dec.copy_(torch.stack(decoders))
        crosscoder.W_enc.zero_()
        crosscoder.W_enc[1, 0] = 1
    return crosscoder


AXIS, NOTHING = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.zeros(4)


def fired(early: float) -> torch.Tensor:
    """Tokens on which the first axis is active at the late checkpoint, and `early` times as much at the early one."""
    strength = torch.rand(200, generator=torch.Generator().manual_seed(0)) + 0.5
    return torch.stack([early * strength.unsqueeze(1) * AXIS, strength.unsqueeze(1) * AXIS])


@pytest.mark.parametrize(("early", "spurious"), [(1.0, True), (0.3, True), (0.0, False)])
def test_a_shrunken_decoder_is_flagged_only_where_the_checkpoint_holds_the_direction(early: float, spurious: bool):
    crosscoder = two_checkpoints(AXIS, NOTHING)
    table = latent_scaling(crosscoder, crosscoder.decompose(fired(early))).set_index("revision")
    assert table.nu_error["early"] == pytest.approx(early, abs=1e-6)
    assert table.nu_reconstruction["early"] == pytest.approx(0, abs=1e-6)
    assert table.spurious.to_dict() == {"early": spurious, "late": False}
    assert table.decoder_share.to_dict() == {"early": 0.0, "late": 1.0}


def test_a_twin_that_does_the_early_work_shows_in_the_reconstruction():
    crosscoder = two_checkpoints(AXIS, NOTHING, torch.stack([AXIS, NOTHING]))
    with torch.no_grad():
        crosscoder.W_enc[1, 0, 1] = 1
    table = latent_scaling(crosscoder, crosscoder.decompose(fired(1.0)), features=[0]).set_index("revision")
    assert table.nu_reconstruction["early"] == pytest.approx(1)
    assert table.nu_error["early"] == pytest.approx(0, abs=1e-6)
    assert table.spurious["early"]


def test_a_feature_that_never_fires_has_no_beta():
    crosscoder = two_checkpoints(AXIS, NOTHING)
    scaling = scale_latents(crosscoder, crosscoder.decompose(-fired(1.0)))
    assert scaling.reconstruction.isnan().all()
    assert scaling.ratio("error").isnan().all()
    assert not latent_scaling(crosscoder, crosscoder.decompose(-fired(1.0))).spurious.any()


def test_bad_input_is_one_sentence(crosscoder):
    decomposed = crosscoder.decompose(activations())
    with pytest.raises(CrosscoderError, match="at 2 checkpoints into 5 features do not fit a crosscoder of 3 and 5"):
        scale_latents(crosscoder, decomposed[:2])
    with pytest.raises(CrosscoderError, match="not 'rest'"):
        scale_latents(crosscoder, decomposed).ratio("rest")
