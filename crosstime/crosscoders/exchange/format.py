"""What a format is, and what all of them share: checked tensors in, a crosscoder out."""

from __future__ import annotations

import json
import pickle
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensors import read_tensors
from interventions import Site
from user_input.first_line import first_line


@dataclass(frozen=True)
class Known:
    """What the caller says of a crosscoder; it goes before what its file says.

    Attributes:
        suite, revisions, site: what it was trained on.
        scales: s_c.
    """

    suite: str | None = None
    revisions: tuple[str, ...] | None = None
    site: Site | None = None
    scales: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Format:
    """One way to keep a crosscoder in files.

    Attributes:
        name: by which it is asked for.
        description: its files and tensors, in a line.
        is_folder: whether it needs a folder of its own.
        holds: whether a path, which exists, is in this format.
        read, write: see `crosstime.crosscoders.exchange.read` and `write`.
    """

    name: str
    description: str
    is_folder: bool
    holds: Callable[[Path], bool]
    read: Callable[[Path, Known], CrossCoder]
    write: Callable[[CrossCoder, Path], None]


@dataclass(frozen=True, eq=False)
class Weights:
    """A crosscoder's tensors on the scale of training, as the formats have them: plain, not yet checked.

    Attributes:
        W_enc, b_enc, W_dec, b_dec: shapes ``C D F``, ``F``, ``F C D``, ``C D``.
        names: how the file calls them, for errors.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    names: Mapping[str, str]

    def checked(self, path: Path) -> Weights:
        """The same in float32, after making sure that they fit each other.

        Raises:
            CrosscoderError: a wrong shape, or a number that is not finite; names the tensor.
        """
        if self.W_dec.dim() != 3:
            raise CrosscoderError(f"{path}: {self.names['W_dec']} has shape {tuple(self.W_dec.shape)}, not three axes")
        n_features, n_checkpoints, width = self.W_dec.shape
        needed = {
            "W_enc": (n_checkpoints, width, n_features), "b_enc": (n_features,),
            "W_dec": (n_features, n_checkpoints, width), "b_dec": (n_checkpoints, width),
        }  # fmt: skip
        floats = {}
        for name, shape in needed.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape:
                raise CrosscoderError(
                    f"{path}: {self.names[name]} does not fit {self.names['W_dec']}, which has {n_checkpoints} "
                    f"checkpoints, width {width} and {n_features} features: as {name} it has shape "
                    f"{tuple(tensor.shape)}, not {shape}"
                )
            floats[name] = tensor.detach().float().contiguous()
            if not floats[name].isfinite().all():
                raise CrosscoderError(f"{path}: {self.names[name]} has numbers that are not finite")
        return Weights(**floats, names=self.names)

    def crosscoder(
        self, path: Path, origin: Origin, scales: Float[Tensor, " C"] | None, activation: Activation | None = None
    ) -> CrossCoder:
        """Put the tensors, which must have been checked, into a crosscoder.

        Raises:
            CrosscoderError: another number of checkpoints than the origin has, or another number of scales.
        """
        n_features, n_checkpoints, _ = self.W_dec.shape
        if len(origin.revisions) != n_checkpoints:
            raise CrosscoderError(
                f"{path} has {n_checkpoints} checkpoints, but {len(origin.revisions)} revisions are named: "
                f"{', '.join(origin.revisions)}"
            )
        made = CrossCoder(origin, n_features, scales, activation=activation)
        with torch.no_grad():
            for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
                getattr(made, name).copy_(getattr(self, name))
        return made.eval()


def origin_of(
    path: Path,
    known: Known,
    weights: Weights,
    *,
    suite: str | None = None,
    revisions: tuple[str, ...] | None = None,
    site: Site | None = None,
    training: dict[str, Any] | None = None,
) -> Origin:
    """What a crosscoder was trained on, from the caller, else from its file, else named by numbers.

    Raises:
        CrosscoderError: nobody says at which site.
    """
    chosen = known.site or site
    if chosen is None:
        raise CrosscoderError(f"{path} does not say at which site its activations were read: give site='resid.8'")
    numbered = tuple(f"checkpoint{c}" for c in range(weights.W_dec.shape[1]))
    return Origin(
        known.suite or suite or path.stem, known.revisions or revisions or numbered, chosen, weights.W_dec.shape[2],
        training or {},
    )  # fmt: skip


def scales_from(path: Path, known: Known, n_checkpoints: int, stored: Any = None) -> Float[Tensor, " C"] | None:
    """The scales that the caller or the file gives; None for ones.

    Raises:
        CrosscoderError: not C positive numbers.
    """
    values = stored if known.scales is None else known.scales
    if values is None:
        return None
    try:
        numbers = torch.as_tensor(values, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        numbers = torch.empty(0)
    if len(numbers) != n_checkpoints or not (numbers.isfinite() & (numbers > 0)).all():
        raise CrosscoderError(
            f"{path}: {n_checkpoints} checkpoints need as many positive scales, not {reprlib.repr(values)}"
        )
    return numbers


def folder_of(path: Path) -> Path:
    """The folder of a pair of files, given it or one of them."""
    return path if path.is_dir() else path.parent


def holds_pair(path: Path, weights: str, configuration: str) -> bool:
    """Whether a folder, or that of a file of weights, has both files of a format."""
    folder, named = folder_of(path), path.is_dir() or path.name == weights
    return named and (folder / weights).is_file() and (folder / configuration).is_file()


def unpickled(path: Path) -> dict[str, Shaped[Tensor, ...]]:
    """The tensors of a file that `torch.save` wrote, without running anything that is in it.

    Raises:
        CrosscoderError: the file is damaged, or holds something other than named tensors of numbers.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrosscoderError(
            f"{path} is refused: it is a pickle of more than tensors, which could run any code when it is read; ask "
            "for a file of tensors alone"
        ) from error
    except Exception as error:  # the instructions in a damaged file trip over each other in every way there is
        raise CrosscoderError(f"{path} is damaged: {first_line(error)[:200]}") from error
    named = (
        {name: value for name, value in found.items() if isinstance(value, Tensor) and isinstance(name, str)}
        if isinstance(found, dict)
        else {}
    )
    if not named:
        raise CrosscoderError(f"{path} holds no named tensors, but {type(found).__name__}")
    for name, tensor in named.items():
        if not _is_plain(tensor):
            raise CrosscoderError(f"{path}: {listed([name])} is not a plain tensor of numbers")
    return named


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has a number of its own at every place: not sparse, nested, quantized, or repeated without end.

    A few bytes can stand for a tensor of any size, which would fill the memory as soon as it is worked with.
    """
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def named_tensors(path: Path) -> tuple[dict[str, Shaped[Tensor, ...]], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        CrosscoderError: the file is missing or damaged.
    """
    try:
        return read_tensors(path)
    except RunError as error:
        raise CrosscoderError(f"cannot load a crosscoder: {error}") from error


def take(path: Path, tensors: dict[str, Tensor], *names: str, optional: tuple[str, ...] = ()) -> list[Tensor]:
    """The named tensors, after making sure that there are these and no others, and that their numbers are real.

    Raises:
        CrosscoderError: names those that are missing, unknown or complex.
    """
    missing = [name for name in names if name not in tensors]
    if missing:
        raise CrosscoderError(f"{path} has no tensor {', '.join(missing)}, only {listed(tensors)}")
    unknown = [name for name in tensors if name not in (*names, *optional)]
    if unknown:
        raise CrosscoderError(f"{path} has a tensor that this format does not: {listed(unknown)}")
    if imaginary := [name for name, tensor in tensors.items() if tensor.is_complex()]:
        raise CrosscoderError(f"{path} has complex numbers in {listed(imaginary)}")
    return [tensors[name] for name in names]


def number_in(path: Path, tensors: Mapping[str, Tensor], name: str) -> float | None:
    """The number in a tensor of one; None where there is no such tensor.

    Raises:
        CrosscoderError: more numbers than one, or one that is not finite.
    """
    if name not in tensors:
        return None
    tensor = tensors[name].double()
    if tensor.numel() != 1 or not tensor.isfinite().all():
        raise CrosscoderError(f"{path}: {name} has shape {tuple(tensor.shape)}, and must be one finite number")
    return float(tensor)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in order, with commas between; long ones cut short, and of many the first.

    Examples:
        >>> listed(["b", "a"]), listed("fedcba", most=2)
        ('a, b', 'a, b and 4 more')
    """
    ordered = sorted(names)
    shown = ", ".join(name if len(name) <= 60 else f"{name[:57]}..." for name in ordered[:most])
    return (shown or "none") + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def refuse_folded(crosscoder: CrossCoder, name: str) -> None:
    """Refuse a selection by norms that are no longer those of the weights, which no other format can hold.

    Raises:
        CrosscoderError: the crosscoder was folded, and selects by norms.
    """
    if crosscoder.norms_before_folding is not None and crosscoder.activation.name != "relu":
        raise CrosscoderError(
            f"the format {name} has no place for the decoder norms of before folding, by which "
            f"{crosscoder.activation.name} selects: write the crosscoder as it was before fold()"
        )


def plain(training: dict[str, Any]) -> dict[str, Any]:
    """A crosscoder's training facts as JSON has them.

    Examples:
        >>> plain({"betas": (0.9, 0.999)})
        {'betas': [0.9, 0.999]}
    """
    return json.loads(json.dumps(training, default=str))
