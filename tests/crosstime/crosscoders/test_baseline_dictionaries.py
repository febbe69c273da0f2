"""Dictionaries that a crosscoder is compared with, against numpy, scipy and the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from seeded_randn import randn

from crosstime.crosscoders.activation_functions import BatchTopK, JumpReLU, PerCheckpointJumpReLU, TopK
from crosstime.crosscoders.baselines.autoencoders import chain, procrustes, rescaling, rotations, transferred
from crosstime.crosscoders.baselines.baseline_dictionaries import baseline_dictionaries
from crosstime.crosscoders.baselines.checkpoint_slice import checkpoint_slice
from crosstime.crosscoders.baselines.linear_basis import (
    LinearBasis,
    covariance,
    difference_components,
    neurons,
    principal_components,
)
from crosstime.crosscoders.baselines.names import BASELINE_NAMES, CHAIN
from crosstime.crosscoders.baselines.random_directions import RandomDirections
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.suites.text_sample import TextSample
from interventions import Site
from tasks.agreement import sentences

REVISIONS, WIDTH, FEATURES = ("step0", "step10", "step40"), 6, 10
ORIGIN = Origin("tiny", REVISIONS, Site(0), WIDTH)


@pytest.fixture
def x() -> torch.Tensor:
    """Activations of three checkpoints with a mean, unequal variances and unequal norms."""
    mixing = randn(3, WIDTH, WIDTH, seed=1) * torch.tensor([0.5, 1.0, 3.0]).reshape(-1, 1, 1)
    return randn(3, 40, WIDTH) @ mixing + randn(3, 1, WIDTH, seed=2)


def trained(revisions: tuple[str, ...] = REVISIONS, activation=None, seed: int = 3) -> CrossCoder:
    """A crosscoder with biases and scales, so that none of them can be forgotten."""
    scales = torch.tensor([2.0, 0.7, 0.4])[: len(revisions)]
    crosscoder = CrossCoder(Origin("tiny", revisions, Site(0), WIDTH), FEATURES, scales, activation=activation)
    with torch.no_grad():
        for name, parameter in crosscoder.named_parameters():
            if name.startswith(("W_", "b_")):
                parameter.copy_(0.4 * randn(*parameter.shape, seed=seed + len(name)))
    return crosscoder.eval()


def test_neurons_are_the_numbers_of_the_activation(x):
    for c, decomposition in enumerate(neurons(ORIGIN).decompose(x)):
        assert torch.equal(decomposition.codes.dense(), x[c])
        assert torch.equal(decomposition.reconstruction, x[c])
        assert not decomposition.bias.any()


def test_components_are_those_of_an_svd_and_reconstruct_everything(x):
    for c, decomposition in enumerate(principal_components(ORIGIN, x).decompose(x)):
        centred = x[c].double().numpy() - x[c].double().numpy().mean(0)
        left, values, right = np.linalg.svd(centred, full_matrices=False)
        codes = decomposition.codes.dense().numpy()
        np.testing.assert_allclose(np.abs(codes), np.abs(left * values), atol=1e-4)
        np.testing.assert_allclose(np.abs(decomposition.directions.numpy() @ right.T), np.eye(WIDTH), atol=1e-4)
        assert decomposition.error.abs().max() < 1e-5


def test_fewer_components_leave_the_variance_of_the_others(x):
    for c, decomposition in enumerate(principal_components(ORIGIN, x, count=2).decompose(x)):
        values = np.linalg.svd(x[c].numpy() - x[c].numpy().mean(0), compute_uv=False)
        assert decomposition.error.square().sum().item() == pytest.approx((values[2:] ** 2).sum(), rel=1e-4)


def test_difference_components_are_those_of_all_pairs(x):
    scales = torch.tensor([2.0, 0.7, 0.4])
    basis = difference_components(ORIGIN, x, scales)
    scaled = (scales.reshape(-1, 1, 1) * x).double().numpy()
    pooled = sum(np.cov((scaled[a] - scaled[b]).T, bias=True) for a in range(3) for b in range(a))
    values, vectors = np.linalg.eigh(pooled)
    assert (np.diff(values) > 1e-3).all()
    for c, decomposition in enumerate(basis.decompose(x)):
        np.testing.assert_allclose(
            np.abs(decomposition.directions.double().numpy() @ vectors[:, ::-1]), np.eye(WIDTH), atol=1e-4
        )
        assert torch.equal(decomposition.directions, basis.directions[0])
        assert decomposition.error.abs().max() < 1e-5
        np.testing.assert_allclose(decomposition.bias.numpy(), x[c].numpy().mean(0), atol=1e-5)


def test_a_covariance_in_chunks_is_that_of_all_tokens(monkeypatch):
    monkeypatch.setattr("crosstime.crosscoders.baselines.linear_basis.CHUNK", 7)
    rows = randn(30, WIDTH) + 5
    np.testing.assert_allclose(covariance(rows).numpy(), np.cov(rows.double().numpy().T, bias=True), atol=1e-10)


def test_random_directions_keep_codes_and_norms(x):
    crosscoder = trained()
    for dictionary in (crosscoder, crosscoder.fold()):
        random = RandomDirections(dictionary, seed=4)
        for own, other in zip(dictionary.decompose(x), random.decompose(x), strict=True):
            assert torch.equal(own.codes.dense(), other.codes.dense())
            torch.testing.assert_close(other.directions.norm(dim=1), own.directions.norm(dim=1))
            torch.testing.assert_close(other.reconstruction + other.error, own.x)
            cosine = torch.nn.functional.cosine_similarity(own.directions, other.directions)
            assert cosine.abs().max() < 0.999
    first, again, another = (RandomDirections(crosscoder, seed).decompose(x)[0].directions for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.allclose(first, another)


def test_the_rotation_is_that_of_scipy(x):
    source, target = (x[c] - x[c].mean(0) for c in (0, 2))
    expected, _ = scipy.linalg.orthogonal_procrustes(source.double().numpy(), target.double().numpy())
    np.testing.assert_allclose(procrustes(source, target).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("align", [None, rescaling, rotations])
def test_a_transferred_autoencoder_is_that_of_its_formula(x, align):
    autoencoder = trained(("step10",))
    dictionary = transferred(ORIGIN, autoencoder, None if align is None else align(x, 1))
    own = autoencoder.decompose(x[1:2])[0]
    s = float(autoencoder.scales[0])
    encoder, decoder = autoencoder.W_enc.detach()[0].numpy(), autoencoder.W_dec.detach()[:, 0].numpy()
    b_enc, b_dec = autoencoder.b_enc.detach().numpy(), autoencoder.b_dec.detach()[0].numpy()
    mean_norms = np.linalg.norm(x.numpy(), axis=2).mean(1)
    for c, decomposition in enumerate(dictionary.decompose(x)):
        factor = 1.0 if align is None else mean_norms[1] / mean_norms[c]
        turn, source, target = np.eye(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH)
        if align is rotations and c != 1:
            source, target = x[c].numpy().mean(0), x[1].numpy().mean(0)
            turn, _ = scipy.linalg.orthogonal_procrustes(factor * (x[c].numpy() - source), x[1].numpy() - target)
        mapped = factor * (x[c].numpy() - source) @ turn + target
        codes = np.maximum(s * mapped @ encoder + b_enc, 0)
        reconstruction = ((codes @ decoder + b_dec) / s - target) @ turn.T / factor + source
        np.testing.assert_allclose(decomposition.codes.dense().numpy(), codes, atol=1e-4)
        np.testing.assert_allclose(decomposition.reconstruction.numpy(), reconstruction, atol=1e-4)
        if c == 1:
            assert torch.equal(decomposition.codes.dense(), own.codes.dense())
            torch.testing.assert_close(decomposition.error, own.error)


def test_rotated_activations_are_decomposed_as_the_original_ones():
    """A checkpoint whose activations are those of the other, turned and grown, has the same codes."""
    origin = Origin("tiny", REVISIONS[:2], Site(0), WIDTH)
    turn = torch.linalg.qr(randn(WIDTH, WIDTH, seed=9)).Q
    original = randn(50, WIDTH)
    original = original - original.mean(0)
    x = torch.stack([original, 3 * original @ turn])
    dictionary = transferred(origin, trained(("step0",)), rotations(x, 0))
    first, second = dictionary.decompose(x)
    torch.testing.assert_close(second.codes.dense(), first.codes.dense(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second.error, 3 * first.error @ turn, atol=1e-4, rtol=1e-4)


def test_each_checkpoint_of_a_chain_has_its_own_autoencoder(x):
    autoencoders = [trained((revision,), seed=index) for index, revision in enumerate(REVISIONS)]
    for c, decomposition in enumerate(chain(ORIGIN, autoencoders).decompose(x)):
        own = autoencoders[c].decompose(x[c : c + 1])[0]
        assert torch.equal(decomposition.codes.dense(), own.codes.dense())
        torch.testing.assert_close(decomposition.reconstruction, own.reconstruction)


def gated(kind: str):
    if kind == "topk":
        return TopK(FEATURES, k=3)
    if kind == "batchtopk":
        activation = BatchTopK(FEATURES, k=3)
        activation.threshold.fill_(0.3)
        return activation
    return (JumpReLU if kind == "jumprelu" else PerCheckpointJumpReLU)(FEATURES, threshold=0.2)


@pytest.mark.parametrize("kind", ["relu", "topk", "batchtopk", "jumprelu", "jumprelu_per_checkpoint"])
def test_a_slice_fires_as_the_crosscoder_of_equal_checkpoints(kind):
    """Where all checkpoints have the same activations and encoders, the slice of one is the crosscoder."""
    crosscoder = trained(activation=None if kind == "relu" else gated(kind))
    with torch.no_grad():
        crosscoder.W_enc.copy_(crosscoder.W_enc[:1].expand_as(crosscoder.W_enc))
        crosscoder.scales.fill_(0.7)
        crosscoder.b_dec.copy_(randn(3, WIDTH))
        if kind == "topk":  # which selects by norms that must be in one proportion at all checkpoints
            crosscoder.W_dec /= crosscoder.W_dec.norm(dim=-1, keepdim=True) / torch.tensor([[1.0], [2.0], [0.5]])
    x = randn(1, 30, WIDTH).expand(3, -1, -1)
    for folded in (crosscoder, crosscoder.fold()):
        for c, revision in enumerate(REVISIONS):
            sliced = checkpoint_slice(folded, revision)
            (own,) = sliced.decompose(x[c : c + 1])
            expected = folded.decompose(x)[c]
            torch.testing.assert_close(own.codes.dense(), expected.codes.dense(), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(own.reconstruction, expected.reconstruction, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(sliced.decoder_norms()[0], folded.decoder_norms()[c])


def test_no_feature_fires_on_fixed_tokens(x):
    fixed = torch.zeros(40, dtype=torch.bool)
    fixed[::7] = True
    autoencoder = trained(("step0",))
    for dictionary in (
        neurons(ORIGIN),
        principal_components(ORIGIN, x),
        RandomDirections(trained()),
        transferred(ORIGIN, autoencoder, rotations(x, 0)),
    ):
        assert isinstance(dictionary, Dictionary)
        for c, decomposition in enumerate(dictionary.decompose(x, fixed)):
            assert decomposition.fixed is fixed
            assert not fixed[decomposition.codes.token].any()
            torch.testing.assert_close(decomposition.reconstruction + decomposition.error, x[c])


def test_every_baseline_of_a_suite_twice(learning_suite, learning_crosscoder):
    text, sample = list(sentences(200, seed=5)), TextSample(20, 12)
    autoencoders = [checkpoint_slice(learning_crosscoder, revision) for revision in learning_suite.revisions]
    first, again = (
        baseline_dictionaries(
            learning_suite, learning_crosscoder, text, BASELINE_NAMES, chain=autoencoders, seed=2, sample=sample
        )
        for _ in range(2)
    )
    assert list(first) == list(BASELINE_NAMES)
    x = randn(3, 9, 16)
    for name, dictionary in first.items():
        assert dictionary.n_checkpoints == 3
        assert tuple(dictionary.decoder_norms().shape) == (3, dictionary.n_features)
        for decomposition, repeated in zip(dictionary.decompose(x), again[name].decompose(x), strict=True):
            assert torch.equal(decomposition.codes.dense(), repeated.codes.dense())
            assert torch.equal(decomposition.reconstruction, repeated.reconstruction)


def test_crosscoder_and_autoencoder_may_be_paths(learning_suite, learning_crosscoder, tmp_path):
    autoencoder = checkpoint_slice(learning_crosscoder, "step10")
    paths = tmp_path / "crosscoder.safetensors", tmp_path / "sae.safetensors"
    learning_crosscoder.save(paths[0])
    autoencoder.save(paths[1])
    names = ["sae-raw"]
    dictionary = baseline_dictionaries(learning_suite, str(paths[0]), [], names, autoencoder=paths[1])["sae-raw"]
    expected = baseline_dictionaries(learning_suite, learning_crosscoder, [], names, autoencoder=autoencoder)["sae-raw"]
    x = randn(3, 9, 16)
    for own, other in zip(dictionary.decompose(x), expected.decompose(x), strict=True):
        assert torch.equal(own.codes.dense(), other.codes.dense())


def test_bad_input_is_refused(x, learning_suite, learning_crosscoder):
    crosscoder = trained()
    text = list(sentences(50, seed=5))
    with pytest.raises(CrosscoderError, match="no baseline dictionary 'neuron': did you mean 'neurons'"):
        baseline_dictionaries(learning_suite, learning_crosscoder, text, ["neuron"])
    with pytest.raises(CrosscoderError, match="needs chain"):
        baseline_dictionaries(learning_suite, learning_crosscoder, text, [CHAIN])
    with pytest.raises(CrosscoderError, match="more than 16 tokens, not 7: read more text"):
        baseline_dictionaries(learning_suite, learning_crosscoder, text, ["components"], sample=TextSample(1, 8))
    with pytest.raises(CrosscoderError, match="crosscoder of step0, step10, step40"):
        baseline_dictionaries(learning_suite, learning_crosscoder, text, ["sae-raw"], autoencoder=learning_crosscoder)
    with pytest.raises(CrosscoderError, match="no checkpoint 'step4': did you mean 'step40'"):
        checkpoint_slice(crosscoder, "step4")
    with pytest.raises(CrosscoderError, match="of 'step41', which is not compared: did you mean 'step40'"):
        transferred(ORIGIN, trained(("step41",)))
    with pytest.raises(CrosscoderError, match="width 5"):
        transferred(ORIGIN, CrossCoder(Origin("tiny", ("step0",), Site(0), 5), FEATURES))
    with pytest.raises(CrosscoderError, match="step10, step0, step40, and the crosscoder compares"):
        chain(ORIGIN, [trained((revision,)) for revision in ("step10", "step0", "step40")])
    with pytest.raises(CrosscoderError, match="more than 6 tokens, not 6"):
        principal_components(ORIGIN, x[:, :6])
    with pytest.raises(CrosscoderError, match="1 to 6 principal components, not 7"):
        principal_components(ORIGIN, x, count=7)
    with pytest.raises(CrosscoderError, match="at least two checkpoints"):
        difference_components(Origin("tiny", ("a",), Site(0), WIDTH), x[:1], torch.ones(1))
    with pytest.raises(CrosscoderError, match="orthogonal"):
        LinearBasis(ORIGIN, [torch.ones(2, WIDTH)] * 3, torch.zeros(3, WIDTH))
    with pytest.raises(CrosscoderError, match="3 checkpoints of width 6; got activations of 2 of width 6"):
        neurons(ORIGIN).decompose(x[:2])
    with pytest.raises(CrosscoderError, match="all zero"):
        rescaling(torch.zeros(2, 3, 4), 0)
