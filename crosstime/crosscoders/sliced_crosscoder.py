"""A crosscoder that stays in its files: its features are in memory a slice at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.crosscoders.activation_functions import Activation, TopK, activation_named
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.crosscoder_file import FEATURE_AXES, CrosscoderFile, refuse_other_format
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.repartition import repartition
from crosstime.crosscoders.stored_directions import StoredDirections
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensor_files import TensorFiles
from interventions import Codes, DecoderSource

SLICE_BYTES = 1 << 28
"""Bytes of the encoder and decoder of a slice."""


class SlicedCrossCoder(CrossCoder):
    """A crosscoder that is larger than memory, in one file or in the parts that several processes wrote.

    It encodes, decodes and decomposes as the whole crosscoder does, up to the rounding of sums. Encoders are read a
    slice of features at a time; the codes of all slices are sparse and stay in memory. Where features compete for a
    token (TopK), the largest codes of each slice are compared. Of the decoders, the one of the checkpoint in work is
    read when it is needed. It cannot be trained, folded, or moved to another device.

    Opening reads everything once: the checksums and every number are verified, and the decoder norms are kept.

    Args:
        path: the file or index that `CrossCoder.save` wrote.
        slice_bytes: bytes of the encoder and decoder of the features in memory at once.

    Raises:
        CrosscoderError: a file is missing, damaged, foreign, or not a crosscoder of this format.

    Examples:
        >>> crosscoder = SlicedCrossCoder("crosscoder.safetensors.index.json")  # doctest: +SKIP
        >>> evaluate(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, slice_bytes: int = SLICE_BYTES) -> None:
        nn.Module.__init__(self)
        self.path = Path(path)
        self._files = _open(self.path)
        sizes = self._files.shapes["W_dec"].sizes
        if len(sizes) != 3:
            raise CrosscoderError(f"{path} is not a valid crosscoder file: W_dec has shape {sizes}, not (F, C, D)")
        n_features, n_checkpoints, width = sizes
        self._slice_size = max(1, min(n_features, slice_bytes // max(1, 8 * n_checkpoints * width)))

        # Read and check every slice, and keep what is small
        norms: list[Tensor] = []
        first: CrosscoderFile | None = None
        for file in self._slice_files():
            crosscoder = CrossCoder.of(file)
            norms.append(crosscoder.decoder_norms())
            first = first or file
        if first is None:
            raise CrosscoderError(f"{path} is not a valid crosscoder file: it has no features")
        self._norms = torch.cat(norms, 1)

        # Parameters of no storage stand for the weights, so that sizes are known and numbers cannot be used by mistake
        self.origin = first.origin
        self.shard = FeatureShard(n_features)
        self.n_shared = int(self._files.metadata.get("n_shared", "0"))
        self.activation = _whole_activation(self._files)
        for name in ("W_dec", "W_enc", "b_enc"):
            shape = self._files.shapes[name]
            self.register_parameter(name, nn.Parameter(torch.empty(shape.sizes, dtype=shape.dtype, device="meta")))
        self.b_dec = nn.Parameter(self._files.read("b_dec"))
        self.register_buffer("scales", self._files.read("scales"))
        self.register_buffer(
            "norms_before_folding", self._norms if "norms_before_folding" in self._files.shapes else None
        )
        self.eval().requires_grad_(False)

    def slices(self) -> Iterator[CrossCoder]:
        """Crosscoders of consecutive features, read one at a time; together they have all features.

        A slice of a TopK crosscoder selects among its own features.
        """
        for file in self._slice_files():
            crosscoder = CrossCoder.of(file)
            crosscoder.scales = self.scales
            yield crosscoder

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """See `CrossCoder.decoder_norms`."""
        return self._norms

    @torch.no_grad()
    def sparse_codes(self, x: Float[Tensor, "T C D"]) -> list[Codes]:
        """See `CrossCoder.sparse_codes`."""
        by_slice = [crosscoder.sparse_codes(x) for crosscoder in self.slices()]
        gates = [Codes.joined(parts) for parts in zip(*by_slice, strict=True)]
        if isinstance(self.activation, TopK):
            return [codes.largest(self.activation.k, self.selection_norms()) for codes in gates]
        return gates

    def encode(self, x: Float[Tensor, "T C D"]) -> Float[Tensor, "T *gates F"]:
        """See `CrossCoder.encode`; the dense codes of all features are in memory."""
        dense = [codes.dense() for codes in self.sparse_codes(x)]
        return torch.stack(dense, 1) if self.activation.gate_per_checkpoint else dense[0]

    def encode_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T *gates F"]:
        """See `CrossCoder.encode_scaled`."""
        return self.encode(scaled / self.scales.unsqueeze(-1))

    def pre_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T F"]:
        """See `CrossCoder.pre_scaled`."""
        return torch.cat([crosscoder.pre_scaled(scaled) for crosscoder in self.slices()], 1)

    def decode_scaled(self, codes: Float[Tensor, "T *gates F"]) -> Float[Tensor, "T C D"]:
        """See `CrossCoder.decode_scaled`."""
        start, total = 0, self.b_dec.expand(len(codes), -1, -1).clone()
        for crosscoder in self.slices():
            span = codes[..., start : start + crosscoder.n_features]
            nn.init.zeros_(crosscoder.b_dec)
            total += crosscoder.decode_scaled(span)
            start += crosscoder.n_features
        return total

    def decode(self, codes: Float[Tensor, "T *gates F"]) -> Float[Tensor, "T C D"]:
        """See `CrossCoder.decode`."""
        return self.decode_scaled(codes) / self.scales.unsqueeze(-1)

    def decoder_at(self, checkpoint_index: int) -> DecoderSource:
        """See `CrossCoder.decoder_at`; the decoder is read whenever it is needed."""
        directions = self.directions()
        n_features, _, width = directions.shape
        return DecoderSource((n_features, width), lambda: directions[:, checkpoint_index])

    def directions(self) -> StoredDirections:
        """See `CrossCoder.directions`; an index reads what it names."""
        return StoredDirections(self._files)

    def fold(self) -> CrossCoder:
        """Not possible without the weights.

        Raises:
            CrosscoderError: always.
        """
        raise CrosscoderError("A crosscoder that stays in its files cannot be folded: load it with CrossCoder.load.")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SlicedCrossCoder:
        """What `to`, `cuda` and `half` call: nothing to do for the device and dtype that it has, refused for others.

        Raises:
            CrosscoderError: it would move or change its weights, which are not in memory.
        """
        moved = fn(torch.zeros(1, device=self.b_dec.device, dtype=self.b_dec.dtype))
        if (moved.device.type, moved.dtype) != (self.b_dec.device.type, self.b_dec.dtype):
            raise CrosscoderError(
                "A crosscoder that stays in its files runs on the CPU in the dtype of its files: load it with "
                "CrossCoder.load to move or change it."
            )
        return self

    def save(self, path: str | Path) -> None:
        """Copy the crosscoder to one file, a block at a time.

        Raises:
            RunError: the file cannot be written.
        """
        self.save_parts(path, 1)

    def save_parts(self, path: str | Path, n_parts: int) -> None:
        """Copy the crosscoder to several files of F / R features and an index, a block at a time; 1 joins them.

        Raises:
            CrosscoderError: the number of parts does not divide the number of features.
            RunError: a file cannot be written; nothing of it is left.
        """
        repartition(self._files, path, n_parts)

    def _slice_files(self) -> Iterator[CrosscoderFile]:
        """The features in slices, each as a file of its own would have them; every slice is checked."""
        for start in range(0, self._files.length, self._slice_size):
            stop = min(start + self._slice_size, self._files.length)
            try:
                tensors = {name: self._files.read(name, start, stop) for name in self._files.shapes}
            except RunError as error:
                raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
            yield CrosscoderFile.checked(self.path, tensors, _of_slice(self._files.metadata, start, stop))


def _open(path: Path) -> TensorFiles:
    """The files of a crosscoder, whose checksums are verified."""
    try:
        files = TensorFiles.open(path, FEATURE_AXES)
    except RunError as error:
        raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
    refuse_other_format(path, files.metadata)
    if "sha256" in files.metadata and files.metadata["sha256"] != files.digest():
        raise CrosscoderError(
            f"{path} is not a valid crosscoder file: its tensors are not those that were written: their checksum "
            "differs"
        )
    missing = {"W_dec", "W_enc", "b_enc", "b_dec", "scales"} - set(files.shapes)
    if missing:
        raise CrosscoderError(f"{path} is not a valid crosscoder file: it has no tensor {', '.join(sorted(missing))}")
    return files


def _of_slice(metadata: Mapping[str, str], start: int, stop: int) -> dict[str, str]:
    """What the file of a slice would say: its shared features, and no more active features than it has."""
    settings = json.loads(metadata.get("settings", "{}"))
    if isinstance(settings, dict) and isinstance(settings.get("k"), int):
        settings["k"] = min(settings["k"], stop - start)
    n_shared = min(max(int(metadata.get("n_shared", "0")) - start, 0), stop - start)
    whole = {name: text for name, text in metadata.items() if name != "sha256"}
    return whole | {"settings": json.dumps(settings), "n_shared": str(n_shared)}


def _whole_activation(files: TensorFiles) -> Activation:
    """The activation function of all features, with its thresholds."""
    settings = json.loads(files.metadata.get("settings", "{}"))
    activation = activation_named(files.metadata["activation"], files.length, settings)
    prefix = "activation."
    tensors = {name.removeprefix(prefix): files.read(name) for name in files.shapes if name.startswith(prefix)}
    activation.load_state_dict(tensors, assign=True)
    return activation
