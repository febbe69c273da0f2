"""Activations of several checkpoints on disk: sharded, aligned token for token, checked, read in random order."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crosstime.activations.buffer import BufferState, ShuffledBuffer
from crosstime.activations.data_config import DataConfig
from crosstime.activations.manifest import check_manifest
from crosstime.errors import RunError, StoreError
from crosstime.machine.storage import read_json
from crosstime.machine.tensors import read_tensors
from crosstime.shown import Shown
from crosstime.suites.compute import DTYPES
from crosstime.suites.suite import Suite
from interventions import Site
from user_input.first_line import first_line

FORMAT = "crosstime-activations-1"
MANIFEST = "manifest.json"
BLOCK = 1024
"""Most neighbouring tokens that are read together: large enough for a disk, small enough to mix the text."""


@dataclass(frozen=True, eq=False, repr=False)
class ActivationStore(Shown):
    """A folder of activations ``T C D`` that `crosstime.harvest` wrote; opening reads the manifest only.

    A store is a row of shards. A shard is one safetensors file with the token ids ``N S`` of its sequences, and one
    with the activations ``T D`` for each checkpoint, of all tokens but each sequence's first: row r is position
    ``1 + r % (S - 1)`` of sequence ``r // (S - 1)``, in every checkpoint's file. Files are mapped into memory, and only
    the rows that are asked for are read. Before a file is first used, its checksum is compared with the manifest's.

    Attributes:
        folder: where it lies.
        manifest: what ``manifest.json`` holds.

    Examples:
        >>> store = ActivationStore.open("activations")  # doctest: +SKIP
        >>> store.n_tokens, store.revisions, store.scales  # doctest: +SKIP
        (1000000, ('step64', 'main'), tensor([1.2, 0.4]))
    """

    folder: Path
    manifest: dict[str, Any]
    _whole: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> ActivationStore:
        """Open a finished store.

        Raises:
            StoreError: there is none, it is unfinished, or a file is missing or of another size than was written.
        """
        store = cls(Path(folder), read_manifest(folder))
        if not store.manifest.get("complete"):
            raise StoreError(f"the store {folder} is unfinished: run the same harvest again, and it goes on")
        for entry in store._files():
            path = store.folder / entry["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != entry["bytes"]:
                found = "is missing" if size is None else f"has {size:,} bytes and not {entry['bytes']:,}"
                raise StoreError(f"{path} {found}: harvest again, and only what is damaged is made anew")
        return store

    def headline(self) -> str:
        """What it holds, and where it lies."""
        return (
            f"{self.n_tokens:,} tokens at {self.site} of {self.made_from['suite']}, d_model {self.d_model:,}, "
            f"{str(self.dtype).removeprefix('torch.')}, in {self.folder}"
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """The checkpoints' scales."""
        return {"checkpoints": pd.DataFrame({"revision": self.revisions, "scale": self.scales.tolist()})}

    @property
    def made_from(self) -> dict[str, Any]:
        """Suite, revisions, site, tokenizer and settings that decide the content."""
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
        """D."""
        return int(self.made_from["d_model"])

    @property
    def dtype(self) -> torch.dtype:
        """In which activations are stored."""
        return DTYPES[self.made_from["dtype"]]

    @property
    def sequence_length(self) -> int:
        """S, the first token of each sequence included."""
        return int(self.made_from["sequence_length"])

    @property
    def n_tokens(self) -> int:
        """T, without the first token of each sequence."""
        return sum(self.shard_tokens(shard) for shard in range(len(self.manifest["shards"])))

    @property
    def scales(self) -> Float[Tensor, " C"]:
        """``s_c = sqrt(D) / E||x_c||`` over all tokens of the store."""
        return torch.tensor(self.manifest["scales"], dtype=torch.float32)

    @cached_property
    def digest(self) -> str:
        """Of what it was made from and of the text: the same for two stores with the same content."""
        content = json.dumps([self.made_from, self.manifest["text"]["digest"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def shard_tokens(self, shard: int) -> int:
        """Tokens of one shard."""
        return int(self.manifest["shards"][shard]["sequences"]) * (self.sequence_length - 1)

    def rows(self, shard: int, start: int, stop: int) -> Float[Tensor, "T C D"]:
        """Activations of tokens `start` to `stop` of a shard, at all checkpoints.

        Raises:
            StoreError: a file of the shard is damaged.
        """
        out = torch.empty(stop - start, len(self.revisions), self.d_model, dtype=self.dtype)
        for index, revision in enumerate(self.revisions):
            path = self._checked(self.manifest["shards"][shard]["activations"][revision])
            try:
                with safe_open(path, framework="pt") as file:
                    found = file.get_slice("activations")[start:stop]
            except (SafetensorError, OSError, RuntimeError) as error:
                raise StoreError(f"{path} is damaged: {first_line(error)}") from error
            if found.shape != out[:, index].shape or found.dtype != self.dtype:
                raise StoreError(f"{path} is damaged: it holds {tuple(found.shape)} numbers in {found.dtype}")
            out[:, index] = found
        return out

    def tokens(self, shard: int) -> Int[Tensor, "N S"]:
        """Token ids of one shard's sequences, int32.

        Raises:
            StoreError: the file is damaged.
        """
        return read_tokens(self._checked(self.manifest["shards"][shard]["tokens"]))

    def verify(self) -> None:
        """Compare every file's checksum with the manifest's; reads the whole store.

        Raises:
            StoreError: names the first file that is damaged.
        """
        for entry in self._files():
            self._checked(entry)

    def refuse_other(self, suite: Suite, site: Site) -> None:
        """Make sure that the store was harvested from these checkpoints, with these weights, at this site.

        Raises:
            StoreError: it was not; the sentence lists what differs.
        """
        wanted = {"revisions": list(suite.revisions), "site": str(site.resolve(suite.n_layers))}
        refuse_differences(self.folder, self.made_from, wanted)
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
    ) -> StoredBatches:
        """Shuffled batches for training: what an `ActivationBuffer` serves, without running a model."""
        return StoredBatches(self, data, limit=limit, repeat=repeat, state=state)

    def _files(self) -> list[dict[str, Any]]:
        shards = self.manifest["shards"]
        return [entry for shard in shards for entry in (shard["tokens"], *shard["activations"].values())]

    def _checked(self, entry: dict[str, Any]) -> Path:
        path = self.folder / entry["file"]
        if entry["file"] not in self._whole:
            if checksum_of(path) != entry["sha256"]:
                raise StoreError(
                    f"{path} is damaged: its checksum is not the one in {MANIFEST}; harvest again, and only what is "
                    "damaged is made anew"
                )
            self._whole.add(entry["file"])
        return path


class StoredBatches(ShuffledBuffer):
    """Batches ``B C D`` from a store: blocks of neighbouring tokens in random order, mixed in a buffer.

    Args:
        store: the store that is read.
        data: batch size, buffer size, dtype and seed of the buffer.
        limit: total number of tokens to serve; None for no limit.
        repeat: start over, in another order, when every block has been read.
        state: state of another buffer on the same store to continue from.

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
    ) -> None:
        super().__init__(len(store.revisions), store.d_model, data, limit=limit)
        self.store, self.repeat = store, repeat
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

    def _position(self) -> tuple[int, str]:
        return self._n_blocks, self.store.digest

    def _read(self, n_tokens: int) -> Float[Tensor, "T C D"]:
        blocks = [torch.empty(0, len(self.store.revisions), self.store.d_model, dtype=self._dtype)]
        count = 0
        while count < n_tokens and (self.repeat or self._n_blocks < len(self._blocks)):
            blocks.append(self.store.rows(*self._next_block()).to(self._dtype))
            count += len(blocks[-1])
        return torch.cat(blocks)

    def _next_block(self) -> tuple[int, int, int]:
        epoch, index = divmod(self._n_blocks, len(self._blocks))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.data.seed + (epoch + 1) * 1_000_003)
            self._epoch, self._block_order = epoch, torch.randperm(len(self._blocks), generator=generator)
        self._n_blocks += 1
        return self._blocks[int(self._block_order[index])]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What ``manifest.json`` of a store holds.

    Raises:
        StoreError: it is missing, damaged, or that of something else.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise StoreError(f"there is no store of activations in {folder}: it has no {MANIFEST}")
    try:
        manifest = read_json(path)
    except RunError as error:
        raise StoreError(str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is not the manifest of a store of activations ({FORMAT})")
    try:
        check_manifest(manifest)
    except KeyError as error:
        raise StoreError(f"{path} is not whole: it has no {error}") from error
    except ValueError as error:
        raise StoreError(f"{path} is not whole: {first_line(error)}") from error
    return manifest


def store_at(source: Any) -> ActivationStore | None:
    """The store that a source of activations names; None where it names text.

    Args:
        source: a path, or several, as a corpus is given.

    Raises:
        StoreError: a store that is unfinished or damaged, or stands beside other sources.

    Examples:
        >>> store_at("text.txt.gz") is None
        True
    """
    sources = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(sources, Sequence):
        return None
    found = [each for each in sources if isinstance(each, str | os.PathLike) and _has_manifest(each)]
    if not found:
        return None
    if len(sources) > 1:
        raise StoreError(f"a store of activations is the only source of a training: {found[0]} stands beside others")
    return ActivationStore.open(found[0])


def _has_manifest(folder: str | os.PathLike[str]) -> bool:
    try:
        return (Path(folder) / MANIFEST).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_tokens(path: Path) -> Int[Tensor, "N S"]:
    """The token ids of a shard's file, int32.

    Raises:
        StoreError: the file is missing, damaged, or holds something else.
    """
    try:
        tokens = read_tensors(path)[0]["tokens"]
    except (RunError, KeyError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if tokens.dtype != torch.int32 or tokens.ndim != 2:
        raise StoreError(f"{path} is damaged: its tokens are {tokens.ndim}-dimensional, in {tokens.dtype}")
    return tokens


def checksum_of(path: Path) -> str:
    """SHA-256 of a file in hex, empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def refuse_differences(folder: Path, was: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare settings of a store with those that are asked for.

    Raises:
        StoreError: they differ; the sentence lists how.
    """
    differ = [
        f"{name} was {was.get(name)!r} and is now {value!r}" for name, value in wanted.items() if was.get(name) != value
    ]
    if differ:
        raise StoreError(f"the store {folder} was made from something else: {'; '.join(differ)}")


def scales_of(norm_sums: list[float], n_tokens: int, d_model: int) -> list[float]:
    """``s_c = sqrt(D) / E||x_c||`` from the sums of norms.

    Examples:
        >>> scales_of([8.0, 2.0], n_tokens=2, d_model=16)
        [1.0, 4.0]
    """
    return [math.sqrt(d_model) * n_tokens / total for total in norm_sums]
