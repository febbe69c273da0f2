"""Named tensors that are divided among several safetensors files, with an index that makes them one.

The processes that hold the parts of a tensor write one file each, and any other number of processes reads them back::

    state.safetensors.index.json                       the index: files, their checksums, the axis of each tensor
    state.safetensors.20-00001-of-00002.safetensors    the first half of the divided tensors, and the undivided ones
    state.safetensors.20-00002-of-00002.safetensors    the second half

Writing:

1. Every process writes its file, atomically, under a name that the present index does not refer to.
2. The processes tell each other the sizes and checksums of their files.
3. The first process replaces the index. Until then the old files are valid, and from then on the new ones.
4. The first process removes the files that the index does not name.

The name of the index and of the files follow those of sharded models on the Hugging Face Hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crosstime.errors import RunError
from crosstime.machine.checksum import checksum_of
from crosstime.machine.memory import in_bytes, main_memory
from crosstime.machine.part_names import index_of, part_names, whole_of
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.storage import is_plain_name, read_json, reading_errors, write_json
from crosstime.machine.tensors import TensorError, read_span, write_tensors

FORMAT = "crosstime-shards-1"
_DIGEST_BYTES = 32
_MAX_AXES = 8


@dataclass(frozen=True)
class ShardedTensors:
    """An index that was read and checked; the tensors are read when they are asked for.

    Attributes:
        index: path of the index.
        metadata: strings that were stored with the tensors.
        files: the files in the order of their parts.
        checksums: the SHA-256 of each file.
        axes: the axis along which each tensor is divided; None for one that is stored once, in the first file.
        length: number of entries of the divided axes, all parts together.
    """

    index: Path
    metadata: dict[str, str]
    files: tuple[Path, ...]
    checksums: tuple[str, ...]
    axes: dict[str, int | None]
    length: int

    @classmethod
    def open(cls, path: str | Path) -> ShardedTensors:
        """Read the index of the file `path`, and check that all its parts are there.

        Raises:
            RunError: the index is missing or not valid, or a part is missing or of another length.
        """
        index = index_of(path)
        content = read_json(index)
        files = _checked_files(index, content)
        for file, entry in zip(files, content["files"], strict=True):
            if not file.is_file():
                raise RunError(f"{index} names {file.name}, which is missing from {file.parent}")
            if file.stat().st_size != entry["bytes"]:
                raise RunError(f"{file} is not the file that {index.name} was written for: its length differs")
        checksums = tuple(entry["sha256"] for entry in content["files"])
        return cls(index, content["metadata"], files, checksums, content["axes"], content["length"])

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def verify(self, numbers: Sequence[int] | None = None) -> None:
        """Compare the files of some parts, by default of all, with their checksums.

        Raises:
            RunError: names the first file that has another one.
        """
        for number in range(len(self.files)) if numbers is None else numbers:
            if checksum_of(self.files[number]) != self.checksums[number]:
                raise RunError(
                    f"{self.files[number]} is not the file that {self.index.name} was written for: its checksum differs"
                )

    def read(self, start: int = 0, stop: int | None = None) -> dict[str, Shaped[Tensor, ...]]:
        """The tensors, of the divided ones only the entries from `start` to `stop`.

        Raises:
            RunError: a file is damaged or has another checksum, or does not hold the part that the index says; or the
                entries need more than the memory of this machine.
        """
        stop = self.length if stop is None else stop
        needed, available = self.nbytes * (stop - start) // self.length, main_memory()
        if needed > available:
            raise RunError(
                f"{self.index} holds {in_bytes(needed)} for this process, which may use {in_bytes(available)} of main "
                f"memory: divide it among more processes, such as torchrun --nproc-per-node {len(self.files)}"
            )
        size = self.length // len(self.files)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.axes}
        for number, path in enumerate(self.files):
            # The undivided tensors are in the first file; of the others, read those with a part of the entries.
            first, last = span_in_part(number, size, start, stop)
            if first >= last and number > 0:
                continue
            self.verify([number])
            with (
                reading_errors(path, "safetensors file", SafetensorError, TensorError),
                safe_open(path, framework="pt") as file,
            ):
                for name, axis in self.axes.items():
                    if axis is None and number == 0:
                        parts[name].append(file.get_tensor(name))
                    elif axis is not None and first < last:
                        parts[name].append(read_span(file, name, axis, first, last))
        return {
            name: part[0] if len(part) == 1 else torch.cat(part, self.axes[name] or 0) for name, part in parts.items()
        }


def span_in_part(number: int, size: int, start: int, stop: int) -> tuple[int, int]:
    """Where the entries from `start` to `stop` of the whole lie in a part; empty or reversed if none do.

    Args:
        number: index of the part.
        size: number of entries of every part.
        start, stop: the entries.

    Examples:
        >>> span_in_part(1, 10, 8, 13)
        (0, 3)
    """
    return max(start - number * size, 0), min(stop - number * size, size)


def write_sharded_tensors(
    path: str | Path,
    tensors: Mapping[str, Shaped[Tensor, ...]],
    axes: Mapping[str, int],
    metadata: Mapping[str, str],
    *,
    generation: str,
    processes: Processes = ALONE,
) -> None:
    """Write this process's part; all processes call it together, and return when the whole is valid.

    Args:
        path: name of the whole; see the description of the module for the names of the files.
        tensors: this process's parts of the divided tensors, and the undivided ones.
        axes: the axis along which each divided tensor is divided. All parts have the same length.
        metadata: strings to store with the tensors.
        generation: distinguishes what is written now from what was written before under the same name.
        processes: the processes that hold the parts, in the order of the parts.

    Raises:
        RunError: a file cannot be written; what was valid before is intact.
        ProcessError: another process is gone.
    """
    # Write the part of this process.
    index = index_of(path)
    names = part_names(path, generation, processes.size)
    file = index.with_name(names[processes.rank])
    own = {name: tensor for name, tensor in tensors.items() if name in axes or processes.first}
    write_tensors(file, own)

    # Tell each other what was written.
    record = torch.zeros(1, 8 + _DIGEST_BYTES, dtype=torch.uint8)
    described = file.stat().st_size.to_bytes(8, "little") + bytes.fromhex(checksum_of(file))
    record[0] = torch.frombuffer(bytearray(described), dtype=torch.uint8)
    records = [bytes(row.tolist()) for row in processes.all_gather(record)]
    entries: list[dict[str, str | int]] = [
        {"file": name, "bytes": int.from_bytes(row[:8], "little"), "sha256": row[8:].hex()}
        for name, row in zip(names, records, strict=True)
    ]

    # Make them valid, and remove what was valid before.
    if processes.first:
        divided = next(name for name in axes)
        length = tensors[divided].shape[axes[divided]] * processes.size
        write_index(path, metadata, length, {name: axes.get(name) for name in tensors}, entries)
    processes.barrier()


def write_index(
    path: str | Path,
    metadata: Mapping[str, str],
    length: int,
    axes: Mapping[str, int | None],
    entries: Sequence[Mapping[str, str | int]],
) -> None:
    """Make the files of all parts valid together, and remove the parts that were valid before.

    Args:
        path: name of the whole.
        metadata, length, axes: as in `ShardedTensors`.
        entries: name, length in bytes and checksum of each file: file, bytes, sha256.

    Raises:
        RunError: the index cannot be written; what was valid before is intact.
    """
    content = {"format": FORMAT, "metadata": dict(metadata), "length": length, "axes": dict(axes)}
    write_json(index_of(path), content | {"files": list(entries)})
    remove_parts(path, keep=[str(entry["file"]) for entry in entries])
    # A whole file of this name, of an earlier time, would be read in place of the parts
    whole_of(path).unlink(missing_ok=True)


def remove_parts(path: str | Path, *, keep: Sequence[str] = ()) -> None:
    """Remove the files of a sharded file but those named, the index only if no file is named."""
    index = index_of(path)
    stem = whole_of(path).name
    if not keep:
        index.unlink(missing_ok=True)
    for file in index.parent.glob(f"{stem}.*-of-*.safetensors"):
        if file.name not in keep:
            file.unlink(missing_ok=True)


def _checked_files(index: Path, content: Any) -> tuple[Path, ...]:
    """The files that an index names, after comparing the index with what one looks like."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError(f"{index} is not an index of sharded tensors of the format {FORMAT!r}")
    files, axes, length, metadata = (content.get(key) for key in ("files", "axes", "length", "metadata"))
    if (
        isinstance(files, list)
        and len(files) > 0
        and all(_is_entry(entry) for entry in files)
        and isinstance(axes, dict)
        and all(axis is None or (type(axis) is int and 0 <= axis < _MAX_AXES) for axis in axes.values())
        and type(length) is int
        and length > 0
        and length % len(files) == 0
        and isinstance(metadata, dict)
        and all(isinstance(value, str) for value in metadata.values())
    ):
        return tuple(index.with_name(entry["file"]) for entry in files)
    raise RunError(f"{index} is damaged: it does not say which part of the tensors is in which file")


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("file"), str)
        and is_plain_name(entry["file"])
        and type(entry.get("bytes")) is int
        and isinstance(entry.get("sha256"), str)
    )
