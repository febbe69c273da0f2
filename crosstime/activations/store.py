"""Activations of several checkpoints on disk: sharded, aligned token by token, with checksums."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.activations.buffer_state import BufferState
from crosstime.activations.data_config import DataConfig
from crosstime.activations.manifest import (
    MANIFEST,
    FileEntry,
    MadeFrom,
    Manifest,
    has_manifest,
    read_manifest,
    refuse_differences,
)
from crosstime.activations.read_ahead import Position, Reading
from crosstime.activations.row_format import RowFormat
from crosstime.activations.token_rows import Share
from crosstime.display import Display
from crosstime.errors import RunError, StoreError
from crosstime.machine.checksum import is_intact
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.tensors import TensorError, check_tensor, read_tensors
from crosstime.suites.suite import Suite
from interventions import Site
from interventions.remote.pause import pause
from user_input.home import expanded
from user_input.reason import reason

BLOCK = 1024
"""Number of neighbouring tokens that are read together: large enough for a disk, small enough to mix the text."""


@dataclass(frozen=True, eq=False, repr=False)
class ActivationStore(Display):
    """A folder of activations ``T C D`` that `crosstime.harvest` wrote.

    A store is a sequence of shards. A shard is one safetensors file with the token ids ``N S`` of its sequences, and
    one file for each checkpoint with the activations ``T D`` of all tokens but the first of each sequence: row r
    belongs to position ``1 + r % (S - 1)`` of sequence ``r // (S - 1)``, in the file of every checkpoint. Opening a
    store reads the manifest only. Files are memory-mapped, and only the requested rows are read. When a file is used
    for the first time, its checksum is compared with that of the manifest.

    Attributes:
        folder: the folder of the store.
        manifest: content of ``manifest.json``.

    Examples:
        >>> store = ActivationStore.open("activations")  # doctest: +SKIP
        >>> store.n_tokens, store.revisions, store.scales  # doctest: +SKIP
        (1000000, ('step64', 'main'), tensor([1.2, 0.4]))
    """

    folder: Path
    manifest: Manifest
    _verified: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> ActivationStore:
        """Open a finished store.

        Raises:
            StoreError: there is no store, it is unfinished, or a file is missing or of the wrong size.
        """
        path = expanded(folder)
        store = cls(path, read_manifest(path))
        if not store.manifest["complete"]:
            raise StoreError(f"the store {folder} is unfinished: run the same harvest again to resume it")
        for entry in store._files():
            path = store.folder / entry["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != entry["bytes"]:
                damage = "is missing" if size is None else f"has {size:,} bytes and not {entry['bytes']:,}"
                raise StoreError(f"{path} {damage}: run the same harvest again to restore what is damaged")
        return store

    def headline(self) -> str:
        """Tokens, site, suite, width, dtype and folder."""
        return (
            f"{self.n_tokens:,} tokens at {self.site} of {self.made_from['suite']}, d_model {self.d_model:,}, "
            f"{str(self.dtype).removeprefix('torch.')}, in {self.folder}"
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """The scale of each checkpoint."""
        return {"checkpoints": pd.DataFrame({"revision": self.revisions, "scale": self.scales.tolist()})}

    @property
    def made_from(self) -> MadeFrom:
        """Suite, revisions, site, tokenizer and settings of the harvest."""
        return self.manifest["made_from"]

    @property
    def revisions(self) -> tuple[str, ...]:
        """The C checkpoints, in order."""
        return tuple(self.made_from["revisions"])

    @property
    def site(self) -> Site:
        """Where the activations were read."""
        return Site.parse(self.made_from["site"])

    @property
    def d_model(self) -> int:
        """D, the width of the model."""
        return int(self.made_from["d_model"])

    @property
    def row_format(self) -> RowFormat:
        """How a row of activations is kept."""
        return RowFormat(self.made_from["dtype"])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored activations."""
        return self.row_format.dtype

    @property
    def sequence_length(self) -> int:
        """S, the length of each sequence including its first token."""
        return int(self.made_from["sequence_length"])

    @property
    def start_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens with which documents begin; stores that do not record them have none."""
        return tuple(self.made_from.get("text_start", ()))

    @property
    def n_tokens(self) -> int:
        """T, the number of tokens without the first one of each sequence."""
        return sum(self.shard_tokens(shard) for shard in range(len(self.manifest["shards"])))

    @property
    def scales(self) -> Float[Tensor, " C"]:
        """``s_c = sqrt(D) / E||x_c||`` over all tokens of the store."""
        return torch.tensor(self.manifest["scales"], dtype=torch.float32)

    @cached_property
    def digest(self) -> str:
        """Digest of the settings and the text: two stores with the same content have the same digest."""
        content = json.dumps([self.made_from, self.manifest["text"]["digest"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def shard_tokens(self, shard: int) -> int:
        """Number of tokens in one shard."""
        return int(self.manifest["shards"][shard]["sequences"]) * (self.sequence_length - 1)

    def rows(self, shard: int, start: int, stop: int) -> Float[Tensor, "T C D"]:
        """Activations of tokens `start` to `stop` of a shard, at all checkpoints; float32 from a store in int8.

        Raises:
            StoreError: a file of the shard is damaged.
        """
        width = self.row_format.width(self.d_model)
        rows = torch.empty(stop - start, len(self.revisions), width, dtype=self.dtype)
        for checkpoint_index, revision in enumerate(self.revisions):
            path = self._verified_path(self.manifest["shards"][shard]["activations"][revision])
            rows[:, checkpoint_index] = _read_rows(path, start, stop, width, self.dtype)
        return self.row_format.decode(rows)

    def tokens(self, shard: int) -> Int[Tensor, "N S"]:
        """Token ids of the sequences of one shard, int32.

        Raises:
            StoreError: the file is damaged.
        """
        return read_tokens(self._verified_path(self.manifest["shards"][shard]["tokens"]))

    def verify(self) -> None:
        """Compare the checksum of every file with that of the manifest; reads the whole store.

        Raises:
            StoreError: a file is damaged; the message names the first one.
        """
        for entry in self._files():
            self._verified_path(entry)

    def refuse_other(self, suite: Suite, site: Site) -> None:
        """Make sure that the store was harvested from these checkpoints, with these weights, at this site.

        Raises:
            StoreError: it was not; the message lists the differences.
        """
        expected = {"revisions": list(suite.revisions), "site": str(site.resolve(suite.n_layers))}
        refuse_differences(self.folder, self.made_from, expected)
        if self.made_from.get("fingerprint") != suite.fingerprint:
            raise StoreError(
                f"the store {self.folder} was harvested from other weights than those of {suite.name}, though "
                f"{', '.join(suite.revisions)} are named alike: harvest again, or open the suite that it was made from"
            )

    def batches(
        self,
        data: DataConfig = DataConfig(),
        *,
        limit: int | None = None,
        repeat: bool = False,
        state: BufferState | None = None,
        processes: Processes = ALONE,
    ) -> StoredBatches:
        """Shuffled batches for training: what an `ActivationBuffer` serves, without running a model."""
        return StoredBatches(self, data, limit=limit, repeat=repeat, state=state, processes=processes)

    def _files(self) -> Iterator[FileEntry]:
        for shard in self.manifest["shards"]:
            yield shard["tokens"]
            yield from shard["activations"].values()

    def _verified_path(self, entry: FileEntry) -> Path:
        """The path of a file, whose checksum is verified when it is used for the first time."""
        path = self.folder / entry["file"]
        if entry["file"] not in self._verified:
            if not is_intact(path, entry["sha256"]):
                raise StoreError(
                    f"{path} is damaged: its checksum is not the one in {MANIFEST}; run the same harvest again to "
                    "restore what is damaged"
                )
            self._verified.add(entry["file"])
        return path


class StoredBatches(ShuffledBuffer):
    """Batches ``B C D`` from a store: blocks of neighbouring tokens in random order, mixed in a buffer.

    Args:
        store: the store that is read.
        data: batch size, buffer size, dtype and seed of the buffer.
        limit: total number of tokens to serve; None for no limit.
        repeat: start over, in another order, when every block has been read.
        state: state of another buffer on the same store to continue from.
        processes: processes that read the blocks together, each its share.

    Raises:
        CrosscoderError: the buffer is smaller than a batch.
        StoreError: a file is damaged, or `state` belongs to another store.

    Examples:
        >>> for step, x in enumerate(StoredBatches(store, DataConfig(batch_size=4096))):  # doctest: +SKIP
        ...     trainer.update(step, x)
    """

    def __init__(
        self,
        store: ActivationStore,
        data: DataConfig = DataConfig(),
        *,
        limit: int | None = None,
        repeat: bool = False,
        state: BufferState | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(store.revisions, store.d_model, data, limit=limit, processes=processes)
        self.store, self.repeat = store, repeat
        self._position = Position(0, store.digest)
        self.scales = store.scales
        self._blocks = [
            (shard, start, min(start + BLOCK, store.shard_tokens(shard)))
            for shard in range(len(store.manifest["shards"]))
            for start in range(0, store.shard_tokens(shard), BLOCK)
        ]
        self._n_blocks = 0
        self._epoch = -1
        self._block_order = torch.empty(0, dtype=torch.int64)

        # Continue from the state of another buffer.
        if state is not None:
            if state.digest != store.digest:
                raise StoreError(
                    f"the store {store.folder} is not the one that training was interrupted on: give the same store, "
                    "or train from the beginning"
                )
            self._n_blocks = state.sequences
            self._restore(state)
        elif data.norm_settings():
            # The scales of the store are those of all its tokens, by their mean norm
            self._refill()
            self.scales = self._measure_scales()

    @property
    def _reads_ahead(self) -> bool:
        """Reading waits for the disk, and leaves the processor to the training steps."""
        return True

    def _read(self, n_tokens: int) -> Reading:
        # The blocks of all processes
        blocks: list[tuple[int, int, int]] = []
        count = 0
        while count < n_tokens and (self.repeat or self._n_blocks < len(self._blocks)):
            shard, start, stop = self._next_block()
            blocks.append((shard, start, stop))
            count += stop - start
        position = Position(self._n_blocks, self.store.digest)

        # This process's share of them
        width = self.row_format.width(self.store.d_model)
        rows = [torch.empty(0, len(self.store.revisions), width, dtype=self.row_format.dtype)]
        for block in self._processes.share(blocks):
            pause(0.0)
            rows.append(self.row_format.encode(self.store.rows(*block)))
        return Reading(Share(torch.cat(rows)), position)

    def _next_block(self) -> tuple[int, int, int]:
        epoch, index = divmod(self._n_blocks, len(self._blocks))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.data.seed + (epoch + 1) * 1_000_003)
            self._epoch, self._block_order = epoch, torch.randperm(len(self._blocks), generator=generator)
        self._n_blocks += 1
        return self._blocks[int(self._block_order[index])]


def store_at(source: object) -> ActivationStore | None:
    """Open the store that a source of activations names; None if the source is text.

    Args:
        source: a corpus as `crosstime.train` takes it: a path, several paths, or documents.

    Raises:
        StoreError: the store is unfinished or damaged, or is given together with other sources.

    Examples:
        >>> store_at("text.txt.gz") is None
        True
    """
    sources = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(sources, Sequence):
        return None
    stores = [path for path in sources if isinstance(path, str | os.PathLike) and has_manifest(path)]
    if not stores:
        return None
    if len(sources) > 1:
        raise StoreError(
            f"an activation store must be the only source of a training run: {stores[0]} is given with other sources"
        )
    return ActivationStore.open(stores[0])


def read_tokens(path: Path) -> Int[Tensor, "N S"]:
    """Read the token ids of a shard, int32.

    Raises:
        StoreError: the file is missing, damaged, or contains something else.
    """
    try:
        tensors, _ = read_tensors(path)
        return check_tensor("tokens", tensors.get("tokens"), (None, None), (torch.int32,))
    except (RunError, TensorError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def _read_rows(path: Path, start: int, stop: int, width: int, dtype: torch.dtype) -> Shaped[Tensor, "T E"]:
    try:
        with safe_open(path, framework="pt") as file:
            rows = file.get_slice("activations")[start:stop]
        return check_tensor("activations", rows, (stop - start, width), (dtype,))
    except (SafetensorError, TensorError, OSError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {reason(error)}") from error


def scales_of(norm_sums: list[float], n_tokens: int, d_model: int) -> list[float]:
    """``s_c = sqrt(D) / E||x_c||`` from each checkpoint's sum of norms.

    Examples:
        >>> scales_of([8.0, 2.0], n_tokens=2, d_model=16)
        [1.0, 4.0]
    """
    return [math.sqrt(d_model) * n_tokens / norm_sum for norm_sum in norm_sums]
