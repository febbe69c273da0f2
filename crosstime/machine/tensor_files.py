"""Named tensors that are too large for memory: read in blocks from one file or several, and written in blocks.

A tensor file is one safetensors file, or several with an index (`crosstime.machine.sharded_tensors`). `TensorFiles`
reads any block of a tensor without the rest, and `write_blocks` writes a file of which only one block is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crosstime.errors import RunError
from crosstime.machine.part_names import is_sharded
from crosstime.machine.sharded_tensors import ShardedTensors, span_in_part
from crosstime.machine.storage import atomic_path, reading_errors
from crosstime.machine.tensors import TensorError, bytes_of, digest_of_blocks

BLOCK_BYTES = 1 << 26
"""Bytes of a block, where a single row is not larger."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes of safetensors files by their names there."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8


@dataclass(frozen=True)
class Shape:
    """Dtype and sizes of a tensor that is not in memory."""

    dtype: torch.dtype
    sizes: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.sizes) * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFiles:
    """The tensors of one file, or of several with an index, that are read block by block.

    Attributes:
        path: the file or the index.
        files: the files in the order of their parts.
        metadata: strings that were stored with the tensors.
        axes: the axis along which each tensor is divided; a tensor that is not named is stored once.
        shapes: dtype and sizes of each tensor, all parts together.
        length: number of entries of the divided axes, all parts together.
    """

    path: Path
    files: tuple[Path, ...]
    metadata: dict[str, str]
    axes: dict[str, int]
    shapes: dict[str, Shape]
    length: int

    @classmethod
    def open(cls, path: str | Path, axes: Mapping[str, int]) -> TensorFiles:
        """Read the headers of the files, and compare the parts of a divided file with their checksums.

        Args:
            path: the name of the whole.
            axes: the axis along which each tensor is read in slices.

        Raises:
            RunError: a file is missing or damaged, a part is not the one of the index, or the index divides the tensors
                along other axes.
        """
        path = Path(path)
        if not is_sharded(path):
            metadata, shapes = _header(path)
            own = {name: axis for name, axis in axes.items() if name in shapes}
            lengths = {shapes[name].sizes[axis] for name, axis in own.items() if axis < len(shapes[name].sizes)}
            if len(lengths) != 1:
                raise RunError(f"{path} is not a file of slices: its tensors are not of one length")
            return cls(path, (path,), metadata, own, shapes, lengths.pop())

        # Compare every part with the index
        sharded = ShardedTensors.open(path)
        own = {name: axis for name, axis in sharded.axes.items() if axis is not None}
        if own != {name: axis for name, axis in axes.items() if name in sharded.axes}:
            raise RunError(f"{sharded.index} divides its tensors along other axes than those of their slices")
        sharded.verify()
        size, shapes = sharded.length // len(sharded.files), {}
        for number, file in enumerate(sharded.files):
            _, of_part = _header(file)
            for name, axis in sharded.axes.items():
                if axis is None and number:
                    continue
                whole = _whole(file, name, of_part.get(name), axis, size, sharded.length)
                if shapes.setdefault(name, whole) != whole:
                    raise RunError(f"{file} holds a part of another tensor {name} than {sharded.files[0].name}")
        return cls(sharded.index, sharded.files, sharded.metadata, own, shapes, sharded.length)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(shape.nbytes for shape in self.shapes.values())

    def read(
        self, name: str, start: int = 0, stop: int | None = None, others: Mapping[int, slice] | None = None
    ) -> Shaped[Tensor, ...]:
        """A block of a tensor.

        Args:
            name: of the tensor.
            start, stop: the entries along the axis on which it is divided; all of a tensor that is stored once.
            others: spans of other axes; without one, all entries.

        Raises:
            RunError: a file is damaged.
        """
        axis = self.axes.get(name)
        if axis is None:
            return self._block(self.files[0], name, others or {})
        stop, size = self.length if stop is None else stop, self.length // len(self.files)
        parts = []
        for number, file in enumerate(self.files):
            first, last = span_in_part(number, size, start, stop)
            if first < last:
                parts.append(self._block(file, name, {**(others or {}), axis: slice(first, last)}))
        return parts[0] if len(parts) == 1 else torch.cat(parts, axis)

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[Shaped[Tensor, ...]]:
        """The entries of a tensor from `start` to `stop` along its divided axis, as blocks in the order of a file."""
        axis, stop = self.axes.get(name), self.length if stop is None else stop
        sizes = list(self.shapes[name].sizes)
        if axis is None or len(sizes) < 2:
            yield self.read(name, start, stop)
            return

        # Whole rows of the first axis, or where these are too large, a row at a time in pieces of the second axis
        sizes[axis] = stop - start
        row = prod(sizes[1:]) * self.shapes[name].dtype.itemsize
        if row <= BLOCK_BYTES or len(sizes) == 2 or axis < 2:
            step = max(1, BLOCK_BYTES // max(1, row))
            for first in range(0, sizes[0], step):
                last = min(first + step, sizes[0])
                if axis == 0:
                    yield self.read(name, start + first, start + last)
                else:
                    yield self.read(name, start, stop, {0: slice(first, last)})
            return
        step = max(1, BLOCK_BYTES // (row // sizes[1]))
        for first in range(sizes[0]):
            for second in range(0, sizes[1], step):
                others = {0: slice(first, first + 1), 1: slice(second, min(second + step, sizes[1]))}
                yield self.read(name, start, stop, others)

    def digest(self) -> str:
        """What `crosstime.machine.tensors.digest_of` gives for all tensors, with one block in memory."""
        return digest_of_blocks({name: (shape.dtype, shape.sizes) for name, shape in self.shapes.items()}, self.blocks)

    def _block(self, file: Path, name: str, spans: Mapping[int, slice]) -> Tensor:
        # The file is mapped again for each row of the first axis, so that pages that were read are freed
        n_axes = len(self.shapes[name].sizes)
        if n_axes == 0:
            with reading_errors(file, "safetensors file", SafetensorError), safe_open(file, framework="pt") as opened:
                scalar: Tensor = opened.get_tensor(name).clone()
                return scalar
        index = [spans.get(axis, slice(None)) for axis in range(n_axes)]
        rows = range(*index[0].indices(self.shapes[name].sizes[0]))
        if self.axes.get(name) in (None, 0) or len(rows) < 2:
            return _read(file, name, tuple(index))
        blocks = [_read(file, name, (slice(row, row + 1), *index[1:])) for row in rows]
        return torch.cat(blocks)


def write_blocks(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Shape],
    blocks: Callable[[str], Iterable[Shaped[Tensor, ...]]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file from blocks, atomically; only one block is in memory.

    Args:
        path: the file.
        shapes: dtype and sizes of each tensor.
        blocks: returns the blocks of a tensor, which one after another are its numbers in their order in memory.
        metadata: strings to store with the tensors.

    Raises:
        RunError: the file cannot be written, or the blocks of a tensor are not of its size; nothing of it is left.

    Source: the format of https://github.com/huggingface/safetensors: the length of the header in 8 bytes, the header as
    JSON, and the numbers of all tensors.
    """
    # The widest numbers come first, so that all are aligned
    order = sorted(shapes, key=lambda name: (-shapes[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in order:
        shape = shapes[name]
        offsets = [offset, offset + shape.nbytes]
        header[name] = {"dtype": _NAMES[shape.dtype], "shape": list(shape.sizes), "data_offsets": offsets}
        offset += shape.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            n_bytes = sum(file.write(bytes_of(block)) for block in blocks(name))
            if n_bytes != shapes[name].nbytes:
                raise RunError(f"cannot write {path}: tensor {name} has {n_bytes} bytes, not {shapes[name].nbytes}")


def _read(file: Path, name: str, index: tuple[slice, ...]) -> Tensor:
    with reading_errors(file, "safetensors file", SafetensorError), safe_open(file, framework="pt") as opened:
        # A copy, since a whole tensor may be a view of the mapped file
        block: Tensor = opened.get_slice(name)[index]
        return block.clone() if block.untyped_storage().nbytes() != block.nbytes else block


def _header(file: Path) -> tuple[dict[str, str], dict[str, Shape]]:
    """The strings of a file, and the dtype and sizes of its tensors."""
    with reading_errors(file, "safetensors file", SafetensorError, TensorError), safe_open(file, "pt") as opened:
        shapes = {}
        for name in opened.keys():  # noqa: SIM118
            slices = opened.get_slice(name)
            if slices.get_dtype() not in DTYPES:
                raise TensorError(f"{name} has dtype {slices.get_dtype()}, not one of {', '.join(DTYPES)}")
            shapes[name] = Shape(DTYPES[slices.get_dtype()], tuple(slices.get_shape()))
        return dict(opened.metadata() or {}), shapes


def _whole(file: Path, name: str, part: Shape | None, axis: int | None, size: int, length: int) -> Shape:
    """Dtype and sizes of a tensor of which a file holds a part."""
    if part is None:
        raise RunError(f"{file} has no part of the tensor {name}, which its index names")
    if axis is None:
        return part
    if len(part.sizes) <= axis or part.sizes[axis] != size:
        raise RunError(f"{file} holds a part of {name} of shape {part.sizes}, not {size} along axis {axis}")
    return Shape(part.dtype, (*part.sizes[:axis], length, *part.sizes[axis + 1 :]))
