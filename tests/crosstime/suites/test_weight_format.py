from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crosstime.suites.weight_format import UnusableWeightsError, check_weight_file, holds_trained_weights

UNTRAINED = {
    "norm.weight": torch.ones(8),
    "norm.bias": torch.zeros(8),
    "zero.weight": torch.zeros(4, 4, dtype=torch.bfloat16),
    "attention.bias": torch.ones(1, 1, 4, 4).tril(),
    "attention.mask": torch.ones(4, 4, dtype=torch.bool).tril(),
    "attention.masked_bias": torch.tensor(-1e9),
    "rotary_emb.inv_freq": 1 / torch.arange(1.0, 5),
    "embeddings.position_ids": torch.arange(8),
}
TRAINED = {
    "float32": torch.tensor([1.0, 2]),
    "bfloat16": torch.tensor([1.0, 2]).bfloat16(),
    "8 bits": torch.tensor([1.0, 2]).to(torch.float8_e4m3fn),
    "quantized": torch.tensor([[1, 2]], dtype=torch.int8),
    "packed": torch.tensor([[1, 2]], dtype=torch.int32),
}


def saved(folder: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


def test_a_file_of_what_training_does_not_change_holds_no_trained_weights(tmp_path: Path):
    assert not holds_trained_weights(saved(tmp_path, UNTRAINED))


@pytest.mark.parametrize("kind", TRAINED)
def test_one_trained_tensor_is_enough(tmp_path: Path, kind: str):
    assert holds_trained_weights(saved(tmp_path, UNTRAINED | {"weight": TRAINED[kind]}))


def test_of_other_files_trained_weights_are_assumed(tmp_path: Path):
    torch.save({"norm.weight": torch.ones(8)}, tmp_path / "pytorch_model.bin")
    assert holds_trained_weights(tmp_path / "pytorch_model.bin")
    assert holds_trained_weights(None)


@pytest.mark.parametrize("end", [0, 4, 8, 20, -1])
def test_every_part_of_a_file_is_incomplete(tmp_path: Path, end: int):
    path = saved(tmp_path, UNTRAINED)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UnusableWeightsError, match="is empty" if end == 0 else "is incomplete"):
        check_weight_file(path, path.name)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"PK\x05\x06" + bytes(18), b"\x00" * 64])
def test_a_file_that_torch_did_not_write_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(UnusableWeightsError, match="is not a file that torch"):
        check_weight_file(path, path.name)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_of_both_kinds_are_accepted(tmp_path: Path, zipped: bool):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    check_weight_file(path, path.name)
