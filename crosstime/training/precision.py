"""The precision of the matrix products of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def best_precision(device: torch.device) -> str:
    """The bfloat16 of a GPU's tensor cores if the GPU has them, else float32."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """Let float32 products on a GPU use TF32 during training, and restore the setting afterwards."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.set_float32_matmul_precision(before)
