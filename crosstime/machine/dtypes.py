"""Floating-point types by name: models run in them, and activations are kept in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
"""Names that are allowed for models; they can be checked without PyTorch."""
ROW_FORMATS = (*DTYPES, "int8")
"""Names that are allowed for activations in a buffer or a store; int8 has a scale per row."""


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of a name.

    Examples:
        >>> torch_dtype("bfloat16").itemsize
        2
    """
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype
