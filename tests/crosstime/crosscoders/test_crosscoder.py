from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.crosscoder_file import FORMAT
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import read_tensors, write_tensors
from interventions import Site

C, D, F = 3, 4, 6
ORIGIN = Origin("mine", ("step0", "step8", "main"), Site(1, "mlp"), D, {"l1": 0.5, "seed": 3})
SCALES = torch.tensor([0.5, 1.0, 4.0])


def random_crosscoder(seed: int = 0) -> CrossCoder:
    """A crosscoder none of whose parameters is zero or like another."""
    crosscoder = CrossCoder(ORIGIN, F, SCALES)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in crosscoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return crosscoder.eval()


def activations(tokens: int = 7) -> torch.Tensor:
    return torch.randn(tokens, C, D, generator=torch.Generator().manual_seed(9))


def code_by_hand(crosscoder: CrossCoder, x: torch.Tensor, feature: int) -> float:
    total = crosscoder.b_enc[feature].item()
    for c in range(C):
        for d in range(D):
            total += crosscoder.W_enc[c, d, feature].item() * crosscoder.scales[c].item() * x[c, d].item()
    return max(0.0, total)


def test_codes_are_the_relu_of_the_scaled_sum_over_checkpoints():
    crosscoder, x = random_crosscoder(), activations()
    codes = crosscoder.encode(x)
    expected = [[code_by_hand(crosscoder, token, feature) for feature in range(F)] for token in x]
    torch.testing.assert_close(codes.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert 0 < (codes > 0).sum() < codes.numel()


def test_reconstructions_are_decoded_and_divided_by_the_scales():
    crosscoder, x = random_crosscoder(), activations()
    reconstruction = crosscoder(x)
    codes = crosscoder.encode(x).tolist()
    for t in range(len(x)):
        for c in range(C):
            for d in range(D):
                total = crosscoder.b_dec[c, d].item()
                total += sum(codes[t][i] * crosscoder.W_dec[i, c, d].item() for i in range(F))
                assert reconstruction[t, c, d].item() == pytest.approx(total / SCALES[c].item(), rel=1e-4, abs=1e-5)


def test_scaled_and_unscaled_forms_are_the_same_function():
    crosscoder, x = random_crosscoder(), activations()
    scaled = x * SCALES[:, None]
    torch.testing.assert_close(crosscoder.encode_scaled(scaled), crosscoder.encode(x))
    codes = crosscoder.encode(x)
    torch.testing.assert_close(crosscoder.decode_scaled(codes), crosscoder.decode(codes) * SCALES[:, None])


def test_decoder_norms_are_on_the_scale_of_training():
    crosscoder = random_crosscoder()
    norms = crosscoder.decoder_norms()
    assert norms.shape == (C, F)
    for c in range(C):
        for i in range(F):
            expected = sum(weight**2 for weight in crosscoder.W_dec[i, c].tolist()) ** 0.5
            assert norms[c, i].item() == pytest.approx(expected, rel=1e-5)


def test_a_new_crosscoder_has_decoder_rows_of_the_given_norm_and_the_transpose_as_encoder():
    crosscoder = CrossCoder(ORIGIN, F, decoder_norm=0.08)
    torch.testing.assert_close(crosscoder.decoder_norms(), torch.full((C, F), 0.08))
    for c in range(C):
        assert torch.equal(crosscoder.W_enc[c], crosscoder.W_dec[:, c].T)
    assert not crosscoder.b_enc.any()
    assert not crosscoder.b_dec.any()
    assert torch.equal(crosscoder.scales, torch.ones(C))


def test_the_seed_decides_the_initialisation_and_the_global_state_does_not():
    torch.manual_seed(1)
    first = CrossCoder(ORIGIN, F, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = CrossCoder(ORIGIN, F, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.W_dec, again.W_dec)
    assert not torch.equal(first.W_dec, CrossCoder(ORIGIN, F, seed=6).W_dec)


def test_reconstruction_and_error_add_up_to_the_activations_at_every_checkpoint():
    crosscoder, x = random_crosscoder(), activations()
    for c, decomposition in enumerate(crosscoder.decompose(x.transpose(0, 1))):
        torch.testing.assert_close(decomposition.reconstruction + decomposition.error, x[:, c])
        torch.testing.assert_close(decomposition.reconstruction, crosscoder(x)[:, c].detach(), rtol=1e-4, atol=1e-5)
        assert torch.equal(decomposition.x, x[:, c])


def test_directions_and_bias_of_a_decomposition_are_in_the_models_own_scale():
    crosscoder, x = random_crosscoder(), activations()
    for c, decomposition in enumerate(crosscoder.decompose(x.transpose(0, 1))):
        torch.testing.assert_close(decomposition.directions, crosscoder.W_dec[:, c].detach() / SCALES[c])
        torch.testing.assert_close(decomposition.bias, crosscoder.b_dec[c].detach() / SCALES[c])
        torch.testing.assert_close(decomposition.codes.dense(), crosscoder.encode(x).detach())


def test_a_decomposition_carries_no_gradient():
    decomposition = random_crosscoder().decompose(activations().transpose(0, 1))[0]
    assert not decomposition.directions.requires_grad
    assert not decomposition.reconstruction.requires_grad


@pytest.mark.parametrize("shape", [(2, 5, D), (C, 5, D + 1)])
def test_activations_of_another_size_are_refused(shape: tuple[int, ...]):
    with pytest.raises(CrosscoderError, match=rf"for {C} checkpoints of width {D}.*of {shape[0]} of width {shape[2]}"):
        random_crosscoder().decompose(torch.zeros(shape))


@pytest.mark.parametrize(("revisions", "n_features"), [((), F), (("a",), 0)])
def test_a_crosscoder_of_nothing_is_refused(revisions: tuple[str, ...], n_features: int):
    with pytest.raises(CrosscoderError, match="at least one checkpoint and one feature"):
        CrossCoder(Origin("mine", revisions, Site(0), D), n_features)


def test_another_number_of_scales_is_refused():
    with pytest.raises(CrosscoderError, match="3 checkpoints need as many scales"):
        CrossCoder(ORIGIN, F, torch.ones(2))


def test_a_saved_crosscoder_comes_back_bit_for_bit(tmp_path):
    crosscoder = random_crosscoder()
    crosscoder.save(tmp_path / "deep" / "crosscoder.safetensors")
    loaded = CrossCoder.load(tmp_path / "deep" / "crosscoder.safetensors")
    assert loaded.origin == ORIGIN
    assert not loaded.training
    assert loaded.state_dict().keys() == crosscoder.state_dict().keys()
    for name, tensor in crosscoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    x = activations()
    assert torch.equal(loaded.encode(x), crosscoder.encode(x))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["crosscoder.safetensors"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CrosscoderError, match=r"there is no safetensors file at .*absent\.safetensors"):
        CrossCoder.load(tmp_path / "absent.safetensors")


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "crosscoder.safetensors"
    random_crosscoder().save(path)
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CrosscoderError, match="is not a valid safetensors file"):
            CrossCoder.load(path)


def test_a_safetensors_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"W_dec": torch.zeros(2, 2)}, path)
    with pytest.raises(CrosscoderError, match=f"its format is None, not '{FORMAT}'"):
        CrossCoder.load(path)


def damaged(name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    origin = json.loads(metadata["origin"])
    if name == "origin is not JSON":
        metadata["origin"] = "{"
    elif name == "no origin":
        del metadata["origin"]
    elif name == "no revisions":
        del origin["revisions"]
        metadata["origin"] = json.dumps(origin)
    elif name == "a site that is none":
        metadata["origin"] = json.dumps(origin | {"site": "head.3"})
    elif name == "fewer revisions":
        metadata["origin"] = json.dumps(origin | {"revisions": ["main"]})
    elif name == "no decoder":
        del tensors["W_dec"]
    elif name == "no bias":
        del tensors["b_enc"]
    elif name == "a tensor too many":
        tensors["W_gate"] = torch.zeros(1)
    elif name == "a decoder without axes":
        tensors["W_dec"] = torch.zeros(())
    else:
        tensors["b_dec"] = torch.zeros(C, D + 1)


@pytest.mark.parametrize(
    "name",
    [
        "origin is not JSON",
        "no origin",
        "no revisions",
        "a site that is none",
        "fewer revisions",
        "no decoder",
        "no bias",
        "a tensor too many",
        "a decoder without axes",
        "a bias of another width",
    ],
)
def test_a_damaged_crosscoder_file_gives_one_sentence(tmp_path, name: str):
    path = tmp_path / "crosscoder.safetensors"
    random_crosscoder().save(path)
    tensors, metadata = read_tensors(path)
    damaged(name, tensors, metadata)
    save_file(tensors, path, metadata)
    with pytest.raises(CrosscoderError, match="is not a valid crosscoder file") as caught:
        CrossCoder.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_whose_numbers_changed_is_refused(tmp_path: Path):
    path = tmp_path / "crosscoder.safetensors"
    CrossCoder(Origin("tiny", ("a", "b"), Site(0), 4), 8).save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CrosscoderError, match="its tensors are not those that were written: their checksum differs"):
        CrossCoder.load(path)


def test_a_file_of_an_earlier_version_has_no_checksum(tmp_path: Path):
    path = tmp_path / "crosscoder.safetensors"
    crosscoder = CrossCoder(Origin("tiny", ("a", "b"), Site(0), 4), 8)
    crosscoder.save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {name: value for name, value in metadata.items() if name != "sha256"})
    assert torch.equal(CrossCoder.load(path).W_dec, crosscoder.W_dec)
