"""Files of named tensors, and the checks that keep a file from being trusted.

A file may have been written by anybody, so its tensors are compared with what is expected, by name, shape and dtype,
where the file is read. Code behind that point relies on its tensors and does not check them again. All readers of
tensors in crosstime use the checks of this module.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crosstime.errors import RunError
from crosstime.machine.storage import atomic_path, reading_errors
from user_input.first_names import first_names
from user_input.reason import reason

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes of real numbers."""

WHOLE = (torch.int32, torch.int64)
"""Dtypes of indices and counts."""


class TensorError(ValueError):
    """A tensor that is missing, unknown, or not as expected; the message says which, but not in which file."""


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Shaped[Tensor, ...]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors and a dictionary of strings as one safetensors file, atomically.

    Values, dtypes and shapes are kept; device, gradient and shared storage are not.

    Raises:
        RunError: the file cannot be written, because the disk is full or a permission is missing. Nothing of it is
            left.

    Examples:
        >>> write_tensors("out.safetensors", {"weight": torch.eye(2)}, {"format": "example"})  # doctest: +SKIP
    """
    # safetensors rejects views and tensors that share a storage, which are ordinary tensors to the caller
    independent: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        if dense.untyped_storage().nbytes() != dense.nbytes or dense.data_ptr() in storages:
            dense = dense.clone()
        storages.add(dense.data_ptr())
        independent[name] = dense

    with atomic_path(path) as temporary:
        try:
            save_file(independent, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise RunError(f"cannot write {Path(path)}: {error}; nothing of it is left") from error
        # safetensors makes the file readable for its owner only, unlike every other file of a run
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)


def read_tensors(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    spans: Mapping[str, tuple[int, int, int]] | None = None,
) -> tuple[dict[str, Shaped[Tensor, ...]], dict[str, str]]:
    """Read a safetensors file: the tensors by name, and the strings stored with them.

    Args:
        path: the file.
        device: where the tensors go.
        spans: for tensors of which only a part is read: the axis, and the first and last index along it.

    Raises:
        RunError: the file is missing, truncated, or not a safetensors file.

    Examples:
        >>> tensors, metadata = read_tensors("out.safetensors")  # doctest: +SKIP
    """
    with (
        reading_errors(path, "safetensors file", SafetensorError),
        safe_open(Path(path), framework="pt", device=str(device)) as file,
    ):
        tensors = {
            name: read_span(file, name, *spans[name]) if spans and name in spans else file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
        }
        return tensors, dict(file.metadata() or {})


def read_span(file: safe_open, name: str, axis: int, start: int, stop: int) -> Shaped[Tensor, ...]:
    """The entries of one tensor of an open file from `start` to `stop` along an axis, without reading the others.

    Raises:
        TensorError: the tensor has no such entries.
    """
    whole = file.get_slice(name)
    shape = whole.get_shape()
    if len(shape) <= axis or shape[axis] < stop:
        raise TensorError(f"{name} has shape {tuple(shape)}, not at least {stop} along axis {axis}")
    part: Tensor = whole[(slice(None),) * axis + (slice(start, stop),)]
    return part


def digest_of(tensors: Mapping[str, Shaped[Tensor, ...]]) -> str:
    """SHA-256 of named tensors, in hexadecimal: of their names, dtypes, shapes and every byte of their values.

    Hashing reads about 2 GB a second on one core.

    Examples:
        >>> digest_of({"a": torch.zeros(2)}) == digest_of({"a": torch.zeros(1, 2)})
        False
    """
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    return digest_of_blocks(shapes, lambda name: [tensors[name]])


def digest_of_blocks(
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], blocks: Callable[[str], Iterable[Shaped[Tensor, ...]]]
) -> str:
    """What `digest_of` gives for tensors that are not in memory.

    Args:
        shapes: dtype and sizes of each tensor.
        blocks: returns the blocks of a tensor, which one after another are its numbers in their order in memory.
    """
    digest = hashlib.sha256()
    for name in sorted(shapes):
        dtype, sizes = shapes[name]
        digest.update(f"{name} {dtype} {sizes}\n".encode())
        for block in blocks(name):
            digest.update(bytes_of(block))
    return digest.hexdigest()


def bytes_of(tensor: Shaped[Tensor, ...]) -> memoryview:
    """The bytes of a tensor's numbers in their order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read_header(path: str | os.PathLike[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors in a safetensors file, and the strings stored with them, without reading any tensor.

    Raises:
        RunError: the file is missing, truncated, or not a safetensors file.
    """
    with (
        reading_errors(path, "safetensors file", SafetensorError),
        safe_open(Path(path), framework="pt") as file,
    ):
        return list(file.keys()), dict(file.metadata() or {})


def read_pickled_tensors(
    path: str | os.PathLike[str], *, numbers: Collection[str] = ()
) -> dict[str, Shaped[Tensor, ...]]:
    """Read the named tensors of a file that `torch.save` wrote, without running any code in it.

    Values that are not tensors are left out, but for the named `numbers`, which become tensors of one element.

    Raises:
        RunError: the file is missing or damaged, would run code, or does not hold plain named tensors.
    """
    # Unpickle with the loader that builds tensors and plain values only
    if not Path(path).is_file():
        raise RunError(f"there is no file of tensors at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path} is refused: it is a pickle of more than tensors, which could run any code when it is read; ask "
            "for a file of tensors alone"
        ) from error
    except Exception as error:  # the instructions of a damaged pickle can raise anything
        raise RunError(f"{path} is damaged: {reason(error)}") from error

    # Keep the named tensors, if their sizes are those of the data in the file
    pairs = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in pairs if isinstance(value, Tensor) and isinstance(name, str)}
    if not tensors:
        raise RunError(f"{path} holds no named tensors, but {type(content).__name__}")
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise RunError(f"{path}: {listed([name])} is not a plain tensor of numbers")
    for name in numbers:
        if isinstance(value := content.get(name), float) or (type(value) is int and abs(value) < 2**53):
            tensors[name] = torch.tensor(value, dtype=torch.float64)
    return tensors


def check_names(tensors: Collection[str], required: Iterable[str], optional: Iterable[str] = ()) -> None:
    """Make sure that a file has the tensors that are expected, and no others.

    Raises:
        TensorError: names the tensors that are missing or unknown.

    Examples:
        >>> check_names(["weight"], required=["weight", "bias"])
        Traceback (most recent call last):
        crosstime.machine.tensors.TensorError: it has no tensor bias, only weight
    """
    required = list(required)
    missing = [name for name in required if name not in tensors]
    if missing:
        raise TensorError(f"it has no tensor {listed(missing)}, only {listed(tensors)}")
    unknown = set(tensors) - {*required, *optional}
    if unknown:
        raise TensorError(f"it has an unknown tensor: {listed(unknown)}")


def check_tensor(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int | None, ...] | None = None,
    dtypes: tuple[torch.dtype, ...] | None = None,
) -> Shaped[Tensor, ...]:
    """The tensor itself, after comparing its shape and dtype with what is expected.

    Args:
        name: of the tensor, for the error.
        tensor: as it was read; None if the file does not have it.
        shape: sizes of the axes, None for an axis of any size; None allows any shape.
        dtypes: the dtypes that are allowed; None allows all.

    Raises:
        TensorError: the tensor is missing, or has another shape or dtype.

    Examples:
        >>> check_tensor("bias", torch.zeros(3), shape=(4,))
        Traceback (most recent call last):
        crosstime.machine.tensors.TensorError: bias has shape (3,), not (4,)
    """
    if tensor is None:
        raise TensorError(f"{name} is missing")
    if shape is not None:
        sizes = tuple(tensor.shape)
        matches = len(sizes) == len(shape) and all(
            expected is None or size == expected for size, expected in zip(sizes, shape, strict=True)
        )
        if not matches:
            sizes_expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise TensorError(f"{name} has shape {sizes}, not ({sizes_expected}{',' if len(shape) == 1 else ''})")
    if dtypes is not None and tensor.dtype not in dtypes:
        raise TensorError(f"{name} has dtype {tensor.dtype}, not {' or '.join(map(str, dtypes))}")
    return tensor


def check_finite(name: str, tensor: Tensor) -> Shaped[Tensor, ...]:
    """The tensor itself, after making sure that no number in it is infinite or NaN.

    Raises:
        TensorError: a number is not finite.
    """
    finite = tensor.isfinite()
    if not finite.all():
        wrong = tensor.numel() - int(finite.sum())
        kind = "NaN" if tensor.isnan().sum() == wrong else "NaN or infinite"
        share = "all of them" if wrong == tensor.numel() else f"{wrong:,} of {tensor.numel():,}"
        raise TensorError(f"{name} has numbers that are not finite: {share} are {kind}")
    return tensor


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in alphabetical order, separated by commas; long names are shortened, and only the first are listed.

    Examples:
        >>> listed(["b", "a"]), listed("fedcba", most=2)
        ('a, b', 'a, b and 4 more')
    """
    ordered = sorted(names)
    return first_names([name if len(name) <= 60 else f"{name[:57]}..." for name in ordered], most) or "none"


def _is_plain(tensor: Tensor) -> bool:
    """Whether every element has memory of its own: the tensor is not sparse, nested, quantized or expanded.

    A few bytes of a file can describe an expanded tensor of any size, which fills the memory once it is used.
    """
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
