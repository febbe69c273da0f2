"""How a row of activations is kept in memory and on disk: as floating-point numbers, or as int8 with a scale.

In int8, the row ``x`` of D numbers is kept as ``q_d = round(x_d / s)`` with the scale ``s = max_d |x_d| / 127`` of the
row in float32, so that ``|x_d - s q_d| <= s / 2``. A row takes D + 4 bytes in place of 2 D in bfloat16. With rounding
errors spread evenly over a step, the mean squared error of a row is ``s^2 / 12``. For normally distributed numbers, the
largest of which is some three standard deviations, that is 5e-5 of their variance. Rows with a few large numbers
(massive activations) lose more; docs/scaling.md has measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, Shaped
from torch import Tensor

from crosstime.machine.dtypes import torch_dtype

INT8 = "int8"
SCALE_BYTES = 4
"""Bytes of the scale of a row, which follow its numbers."""
_LARGEST = 127
CHUNK = 1 << 14
"""Tokens that are encoded or decoded at a time, so that their float32 numbers take little memory."""


@dataclass(frozen=True)
class RowFormat:
    """A format of rows of D numbers: ``float32``, ``bfloat16``, ``float16``, or ``int8`` with a scale per row.

    Attributes:
        name: name of the format.

    Examples:
        >>> row_format = RowFormat("int8")
        >>> row_format.encode(torch.tensor([[0.5, -1.0]])).shape
        torch.Size([1, 6])
        >>> x = torch.tensor([[0.5, -1.0]])
        >>> row_format.decode(row_format.encode(x)).allclose(x, atol=0.01)
        True
    """

    name: str

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of encoded rows."""
        return torch_dtype(self.name)

    @property
    def is_quantised(self) -> bool:
        """Whether decoding gives other numbers than those that are kept."""
        return self.name == INT8

    def width(self, d_model: int) -> int:
        """E, the length of an encoded row."""
        return d_model + SCALE_BYTES if self.is_quantised else d_model

    def row_bytes(self, d_model: int) -> int:
        """Bytes of an encoded row."""
        return self.width(d_model) * self.dtype.itemsize

    def encode(self, x: Float[Tensor, "*rows D"]) -> Shaped[Tensor, "*rows E"]:
        """Rows as they are kept. In int8, a row with a number that is not finite decodes to NaN."""
        if not self.is_quantised:
            return x.to(self.dtype)
        flat = x.reshape(-1, x.shape[-1])
        encoded = torch.empty(len(flat), self.width(x.shape[-1]), dtype=torch.int8, device=x.device)
        for start in range(0, len(flat), CHUNK):
            numbers, scales = quantised(flat[start : start + CHUNK])
            encoded[start : start + CHUNK, :-SCALE_BYTES] = numbers
            encoded[start : start + CHUNK, -SCALE_BYTES:] = scales.unsqueeze(-1).view(torch.int8)
        return encoded.reshape(*x.shape[:-1], -1)

    def decode(self, rows: Shaped[Tensor, "*rows E"]) -> Float[Tensor, "*rows D"]:
        """The activations of encoded rows: in the dtype of the format, in float32 for int8."""
        if not self.is_quantised:
            return rows
        scales = rows[..., -SCALE_BYTES:].clone(memory_format=torch.contiguous_format).view(torch.float32)
        return rows[..., :-SCALE_BYTES] * scales


def quantised(x: Float[Tensor, "N D"]) -> tuple[Int8[Tensor, "N D"], Float[Tensor, " N"]]:
    """Numbers from -127 to 127 and the scale of every row, NaN where a number is not finite.

    Examples:
        >>> quantised(torch.tensor([[2.0, -1.0]]))[0].tolist()
        [[127, -64]]
    """
    x = x.float()
    scales = x.abs().amax(-1) / _LARGEST
    scales = torch.where(scales.isfinite(), scales, torch.nan)
    numbers = (x / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)).round_()
    return numbers.nan_to_num_(0.0, 0.0, 0.0).to(torch.int8), scales
