"""A crosscoder that stays in its files gives the numbers of a loaded one; its files are joined and divided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from crosstime.cli.main import app
from crosstime.crosscoders.activation_functions import (
    Activation,
    BatchTopK,
    JumpReLU,
    PerCheckpointJumpReLU,
    ReLU,
    TopK,
)
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import open_crosscoder
from crosstime.crosscoders.origin import Origin
from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.evolution.latent_scaling import latent_scaling
from crosstime.machine import sharded_tensors, tensor_files
from interventions import Site

FEATURES, CHECKPOINTS, WIDTH = 24, 3, 8
ORIGIN = Origin("random", tuple("abc"), Site(0), WIDTH)
KINDS = ("relu", "topk", "batchtopk", "jumprelu", "jumprelu_per_checkpoint")
SLICE_BYTES = 8 * CHECKPOINTS * WIDTH * 7
"""Seven features, so that slices are not those of the parts, and the last one is smaller."""


def activation(kind: str) -> Activation:
    if kind == "batchtopk":
        batchtopk = BatchTopK(FEATURES, k=5)
        batchtopk.threshold.fill_(0.3)
        return batchtopk
    return {
        "relu": lambda: ReLU(),
        "topk": lambda: TopK(FEATURES, k=9),
        "jumprelu": lambda: JumpReLU(FEATURES, threshold=0.3),
        "jumprelu_per_checkpoint": lambda: PerCheckpointJumpReLU(FEATURES, threshold=0.1),
    }[kind]()


def crosscoder_of(kind: str) -> CrossCoder:
    """A crosscoder whose weights are all different."""
    n_shared = 0 if kind == "jumprelu_per_checkpoint" else 5
    scales = torch.tensor([0.5, 1.0, 2.0])
    crosscoder = CrossCoder(ORIGIN, FEATURES, scales, activation=activation(kind), n_shared=n_shared, decoder_norm=0.7)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (crosscoder.b_enc, crosscoder.b_dec, crosscoder.W_enc):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        if kind.startswith("jumprelu"):
            crosscoder.activation.log_threshold.add_(0.2 * torch.randn(FEATURES, generator=generator))
    return crosscoder.eval()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("n_parts", [1, 2, 4])
def test_codes_reconstructions_and_evolution_are_those_of_the_whole(kind: str, n_parts: int, tmp_path: Path):
    whole = crosscoder_of(kind)
    whole.save(tmp_path / "whole.safetensors")
    SlicedCrossCoder(tmp_path / "whole.safetensors").save_parts(tmp_path / "c.safetensors", n_parts)
    sliced = SlicedCrossCoder(tmp_path / "c.safetensors", SLICE_BYTES)
    assert [part.n_features for part in sliced.slices()] == [7, 7, 7, 3]
    assert sliced.headline() == whole.headline()

    x = torch.randn(CHECKPOINTS, 70, WIDTH, generator=torch.Generator().manual_seed(2))
    fixed = torch.arange(70) % 10 == 0
    by_rows = x.transpose(0, 1)
    torch.testing.assert_close(sliced.encode(by_rows), whole.encode(by_rows))
    torch.testing.assert_close(sliced(by_rows), whole(by_rows))
    assert torch.equal(sliced.decoder_norms(), whole.decoder_norms())

    actual, expected = sliced.decompose(x, fixed), whole.decompose(x, fixed)
    for of_sliced, of_whole in zip(actual, expected, strict=True):
        assert of_sliced.codes.token.tolist() == of_whole.codes.token.tolist()
        assert of_sliced.codes.feature.tolist() == of_whole.codes.feature.tolist()
        torch.testing.assert_close(of_sliced.codes.value, of_whole.codes.value)
        assert torch.equal(of_sliced.directions, of_whole.directions)
        torch.testing.assert_close(of_sliced.reconstruction, of_whole.reconstruction)
        torch.testing.assert_close(of_sliced.error, of_whole.error)

    for name, table in decoder_evolution(whole).items():
        assert decoder_evolution(sliced)[name].equals(table), name
    scaling = latent_scaling(whole, expected)
    # The ratios nu of these betas may have a denominator of nearly zero
    numbers = ["decoder_share", "beta_reconstruction", "beta_error"]
    difference = latent_scaling(sliced, actual)[numbers] - scaling[numbers]
    assert difference.abs().max().max() < 1e-5


@pytest.mark.parametrize("n_parts", [2, 3, 4])
def test_parts_are_joined_to_the_file_that_was_divided(
    kind: str, n_parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensor_files, "BLOCK_BYTES", 100)
    whole = crosscoder_of(kind)
    whole.save(tmp_path / "whole.safetensors")
    for command in (["whole", "parts", str(n_parts)], ["parts", "other", "6"], ["other", "joined", "1"]):
        source, target, parts = command
        arguments = [str(tmp_path / f"{name}.safetensors") for name in (source, target)]
        outcome = CliRunner().invoke(app, ["convert", *arguments, "--parts", parts])
        assert outcome.exit_code == 0, outcome.output
    assert len(list(tmp_path.glob(f"parts.safetensors.*-of-{n_parts:05d}.safetensors"))) == n_parts
    for name in ("parts", "other", "joined"):
        loaded = CrossCoder.load(tmp_path / f"{name}.safetensors")
        assert loaded.facts() == whole.facts()
        for tensor, expected in whole.state_dict().items():
            assert torch.equal(loaded.state_dict()[tensor], expected), (name, tensor)


def test_a_file_is_divided_and_joined_under_its_own_name(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    whole = crosscoder_of("relu")
    whole.save(path)
    for n_parts in (4, 2, 2, 1, 3):
        SlicedCrossCoder(path).save_parts(path, n_parts)
        assert path.is_file() == (n_parts == 1)
        assert len(list(tmp_path.iterdir())) == (1 if n_parts == 1 else n_parts + 1)
        assert isinstance(open_crosscoder(path), SlicedCrossCoder) == (n_parts > 1)
        assert torch.equal(CrossCoder.load(path).W_enc, whole.W_enc)


def test_a_number_of_parts_that_does_not_divide_the_features_is_refused(tmp_path: Path):
    crosscoder_of("relu").save(tmp_path / "c.safetensors")
    arguments = ["convert", str(tmp_path / "c.safetensors"), str(tmp_path / "d.safetensors"), "--parts", "5"]
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, CrosscoderError)
    assert "24 features cannot be divided evenly among 5" in str(outcome.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("fault", ["missing", "foreign", "damaged"])
def test_a_part_that_is_not_the_one_of_the_index_is_refused(fault: str, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    crosscoder_of("relu").save(path)
    SlicedCrossCoder(path).save_parts(path, 2)
    first, second = sorted(tmp_path.glob("*-of-*.safetensors"))
    if fault == "missing":
        second.unlink()
    elif fault == "foreign":
        second.write_bytes(first.read_bytes())
    else:
        content = bytearray(second.read_bytes())
        content[-1] ^= 1
        second.write_bytes(content)
    for read in (SlicedCrossCoder, CrossCoder.load):
        with pytest.raises(CrosscoderError, match=r"which is missing|is not the file that"):
            read(path)


def test_it_stays_on_the_cpu_in_its_own_dtype(tmp_path: Path):
    crosscoder_of("relu").save(tmp_path / "crosscoder.safetensors")
    sliced = SlicedCrossCoder(tmp_path / "crosscoder.safetensors", SLICE_BYTES)
    x = torch.randn(4, CHECKPOINTS, WIDTH, generator=torch.Generator().manual_seed(2))
    assert torch.equal(sliced.cpu().float().eval().encode(x), sliced.encode(x))
    for move in (lambda: sliced.to("meta"), lambda: sliced.half(), lambda: sliced.to(torch.float64)):
        with pytest.raises(CrosscoderError, match="runs on the CPU in the dtype of its files: load it"):
            move()


def test_parts_that_one_process_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "c.safetensors"
    crosscoder_of("relu").save(path)
    SlicedCrossCoder(path).save_parts(path, 2)
    monkeypatch.setattr(sharded_tensors, "main_memory", lambda: 5_000)
    with pytest.raises(CrosscoderError, match="may use 5 kB of main memory: divide it among more processes"):
        CrossCoder.load(path)
    assert open_crosscoder(path).n_features == FEATURES


def test_a_checksum_of_one_file_is_verified_in_blocks(tmp_path: Path):
    path = tmp_path / "c.safetensors"
    crosscoder_of("relu").save(path)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CrosscoderError, match="their checksum differs"):
        SlicedCrossCoder(path)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert "sha256" in header["__metadata__"]
