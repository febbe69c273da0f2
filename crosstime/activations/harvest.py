"""Harvest activations: write those of all checkpoints of a suite on a text to disk, one checkpoint at a time."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from crosstime.activations.manifest import (
    FORMAT,
    MANIFEST,
    ActivationEntry,
    FileEntry,
    MadeFrom,
    Manifest,
    read_manifest,
    refuse_differences,
)
from crosstime.activations.row_format import CHUNK, RowFormat
from crosstime.activations.store import ActivationStore, read_tokens, scales_of
from crosstime.errors import StoreError
from crosstime.machine.checksum import checksum_of, is_intact
from crosstime.machine.dtypes import ROW_FORMATS
from crosstime.machine.lock import exclusive
from crosstime.machine.processes import join_processes, local_device
from crosstime.machine.progress import track
from crosstime.machine.storage import write_json
from crosstime.machine.tensors import write_tensors
from crosstime.suites.allowances import allowances
from crosstime.suites.check_length import check_length
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import documents, sequences
from crosstime.suites.fingerprint import tokenizer_hash
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.suites.token_norms import token_norms, warn_of_outliers
from interventions import Model, Sequences, Site, fetch
from user_input.home import expanded
from user_input.nearest import nearest

LOCK = "harvest.lock"
"""File in the folder of a store while a process writes to it."""


def harvest(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str],
    folder: str | Path,
    *,
    tokens: int | None = None,
    sequence_length: int = 1024,
    dtype: str = "bfloat16",
    shard_tokens: int = 1 << 17,
    compute: Compute = Compute(),
) -> ActivationStore:
    """Run a text through every checkpoint once and store the activations at one site on disk.

    The text is cut into sequences first, and their token ids are written. Then each checkpoint is opened once and
    writes its file of every shard, so that only one model is in memory at a time. Files are written atomically and
    recorded in ``manifest.json`` with their checksums: a harvest that was interrupted at any moment resumes when it is
    called again, and a harvest of a finished store verifies all checksums and restores what is missing or damaged. The
    scales ``s_c = sqrt(D) / E||x_c||`` are computed along the way. Disk space: tokens x C x D x 2 bytes (4 in
    float32, 1 in int8).

    Under ``torchrun``, each process runs a checkpoint of its own at a time, and all of them write to the same folder,
    which they must share. The store is the same, byte for byte.

    Args:
        suite: the C checkpoints.
        site: where activations are read, such as ``Site(8)`` or ``"resid.8"``.
        corpus: text files, a Hub data set (``hf:ORG/NAME``), or an iterable of documents; read once, in order.
        folder: folder of the store, created if missing.
        tokens: upper bound on the number of tokens, rounded down to whole sequences; None stores the whole text.
        sequence_length: S; the first token of each sequence is not stored.
        dtype: dtype of the stored activations: float32, bfloat16, float16, or int8 with a scale per row.
        shard_tokens: number of tokens per shard, rounded down to whole sequences.
        compute: how the checkpoints are run.

    Returns:
        The finished store.

    Raises:
        StoreError: the folder holds a store made with other settings (the message lists the differences), the disk has
            too little space, activations overflow the dtype, or a size or count is too small.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        CorpusError: the text cannot be read, or is too short for one sequence.
        RunError: a file cannot be written.
        ProcessError: another process of torchrun failed, or started from other inputs.

    Examples:
        >>> store = harvest(suite, Site(1), "corpus.txt.gz", "activations", tokens=1_000_000)  # doctest: +SKIP
        >>> trained = ct.train(suite, Site(1), store, config)  # doctest: +SKIP
    """
    # Check the settings.
    folder, site = expanded(folder), Site.of(site).resolve(suite.n_layers)
    if sequence_length < 2:
        raise StoreError(f"sequences need at least 2 tokens, not {sequence_length}: the first of each is left out")
    if dtype not in ROW_FORMATS:
        raise StoreError(f"there is no dtype {dtype!r}: {nearest(dtype, ROW_FORMATS)}")
    tokens_per_sequence = sequence_length - 1
    if shard_tokens < 1 or (tokens is not None and tokens < tokens_per_sequence):
        raise StoreError(
            f"a store needs at least one sequence of {tokens_per_sequence} tokens, and shards of at least one token"
        )
    compute.verify(suite, distinct=True)

    check_length(suite, sequence_length)

    # Start a store, or resume the one in the folder if it was made with the same settings.
    made_from = MadeFrom(
        suite=suite.name,
        revisions=list(suite.revisions),
        site=str(site),
        d_model=suite.d_model,
        tokenizer=tokenizer_hash(suite.tokenizer),
        tokens=tokens,
        sequence_length=sequence_length,
        dtype=dtype,
        shard_tokens=shard_tokens,
        model_dtype=compute.precision,
        fingerprint=suite.fingerprint,
    )
    if suite.start_tokens:
        made_from["text_start"] = list(suite.start_tokens)
    device = local_device(compute.torch_device)
    processes, compute = join_processes(device), replace(compute, device=str(device))
    processes.agree(hashlib.sha256(json.dumps(made_from).encode()).digest(), "checkpoints, settings and versions")
    with _alone_in(folder) if processes.first else nullcontext():
        # Write the token ids; only the first process writes the manifest.
        writer = None
        if processes.first:
            writer = _StoreWriter(folder, made_from)
            writer.manifest.update(allowances(suite))
            lines, _ = documents(corpus)
            token_ids = sequences(lines, suite.tokenizer, sequence_length, start=suite.start_tokens)
            if tokens is not None:
                token_ids = islice(token_ids, tokens // tokens_per_sequence)
            writer.write_text(token_ids, source=str(corpus) if isinstance(corpus, str | Path) else None)
            writer.check_free_space()

        # Write the activations, opening only the checkpoints whose files are missing.
        missing = processes.gather(writer and writer.missing())[0]
        activations = _Activations(folder, made_from, site)
        with track("Harvesting activations", sum(map(len, missing.values())), "files") as bar:
            unfinished = [revision for revision, shards in missing.items() if shards]
            for first in range(0, len(unfinished), processes.size):
                # This process has one of the next checkpoints, or none if there are fewer than processes.
                entries: list[tuple[str, int, ActivationEntry]] = []
                for revision in unfinished[first + processes.rank : first + processes.rank + 1]:
                    bar.note(revision)
                    with compute.open(suite, revision) as model:
                        for number in missing[revision]:
                            entries.append((revision, number, activations.write(model, revision, number)))
                            if writer is not None:
                                writer.record(*entries[-1])
                            bar.advance()

                # The first process, which has recorded its own files, records those of the others.
                of_others = chain.from_iterable(processes.gather(entries)[1:])
                if writer is not None:
                    for revision, number, entry in of_others:
                        writer.record(revision, number, entry)
        if writer is not None:
            writer.finish()
        processes.barrier()
    return ActivationStore.open(folder)


def _alone_in(folder: Path) -> AbstractContextManager[None]:
    """Let one process at a time write to the folder, which is created if missing.

    Raises:
        RunError: another process writes a store there.
    """
    # What is not a folder is refused by the writer, whose message says what it is
    if folder.exists() and not folder.is_dir():
        return nullcontext()
    return exclusive(folder / LOCK, work="a harvest", instead="choose another folder")


class _StoreWriter:
    """Writes the missing files of a store, and keeps its manifest up to date after every file."""

    def __init__(self, folder: Path, made_from: MadeFrom) -> None:
        self.folder, self.made_from = folder, made_from
        self._tokens_per_sequence = made_from["sequence_length"] - 1
        self._sequences_per_shard = max(1, made_from["shard_tokens"] // self._tokens_per_sequence)
        self._damaged_tokens: set[str] = set()

        # Resume the store in the folder, or start a new one in an empty folder.
        if (folder / MANIFEST).is_file():
            self.manifest = read_manifest(folder)
            refuse_differences(folder, self.manifest["made_from"], made_from)
            self._drop_damaged()
        elif folder.exists() and (not folder.is_dir() or any(not _is_temporary(path) for path in folder.iterdir())):
            raise StoreError(f"{folder} exists and is not an activation store: choose another folder")
        else:
            self.manifest = Manifest(
                format=FORMAT,
                made_from=made_from,
                complete=False,
                text={"complete": False, "source": None, "digest": ""},
                shards=[],
            )

        # Remove temporary files of a killed harvest.
        for path in list(folder.glob(".tmp*")):
            if _is_temporary(path):
                path.unlink()

    def write_text(self, token_ids: Iterator[Int[Tensor, " S"]], source: str | None) -> None:
        """Write the token ids of every shard that has none yet.

        Args:
            token_ids: all sequences of the text, in order.
            source: where the text comes from, for the manifest.
        """
        shards, text = self.manifest["shards"], self.manifest["text"]
        digest = hashlib.sha256()

        # The text must start with the token ids in the store, or two texts would be mixed in one store. If the text is
        # complete and intact, its first shard is compared.
        n_compared = len(shards) if self._damaged_tokens or not text["complete"] else min(1, len(shards))
        for shard in shards[:n_compared]:
            ids = self._next_shard(token_ids)
            if ids is None or not self._is_stored(ids, shard["tokens"]):
                raise StoreError(f"the store {self.folder} was made from another text; choose another folder")
            digest.update(ids.numpy().tobytes())
        if text["complete"]:
            return

        # Write the rest of the text.
        while (ids := self._next_shard(token_ids)) is not None:
            if not shards:
                self._save_manifest()
            digest.update(ids.numpy().tobytes())
            entry = _write(self.folder, _tokens_file(len(shards)), {"tokens": ids})
            shards.append({"sequences": len(ids), "tokens": entry, "activations": {}})
            self._save_manifest()

        # Record that the text is complete.
        text.update({"complete": True, "digest": digest.hexdigest(), "source": source})
        self._save_manifest()

    def check_free_space(self) -> None:
        """Reject a harvest that does not fit the disk, before any model is run."""
        shards = self.manifest["shards"]
        bytes_per_token = RowFormat(self.made_from["dtype"]).row_bytes(self.made_from["d_model"])
        n_sequences = sum(shards[shard]["sequences"] for missing in self.missing().values() for shard in missing)
        needed = n_sequences * self._tokens_per_sequence * bytes_per_token
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StoreError(
                f"the store {self.folder} needs {needed / 1e9:,.1f} GB more, but its disk has {free / 1e9:,.1f} GB "
                "free: take fewer tokens, or train without a store"
            )

    def missing(self) -> dict[str, list[int]]:
        """For each checkpoint, the shards whose activations are not written yet."""
        shards = self.manifest["shards"]
        return {
            revision: [number for number, shard in enumerate(shards) if revision not in shard["activations"]]
            for revision in self.made_from["revisions"]
        }

    def record(self, revision: str, number: int, entry: ActivationEntry) -> None:
        """Record the file of one checkpoint and shard."""
        # The entries are in the order of the checkpoints, so that a restored store is identical
        shard = self.manifest["shards"][number]
        entries = shard["activations"] | {revision: entry}
        shard["activations"] = {name: entries[name] for name in self.made_from["revisions"] if name in entries}
        self._save_manifest()

    def finish(self) -> None:
        """Compute the scales, and mark the store as complete."""
        shards = self.manifest["shards"]
        n_tokens = sum(shard["sequences"] for shard in shards) * self._tokens_per_sequence
        norm_sums = [
            sum(shard["activations"][revision]["norms"] for shard in shards) for revision in self.made_from["revisions"]
        ]
        self.manifest["scales"] = scales_of(norm_sums, n_tokens, self.made_from["d_model"])
        self.manifest["complete"] = True
        self._save_manifest()

    def _next_shard(self, token_ids: Iterator[Int[Tensor, " S"]]) -> Int[Tensor, "N S"] | None:
        shard = list(islice(token_ids, self._sequences_per_shard))
        return torch.stack(shard).to(torch.int32) if shard else None

    def _is_stored(self, ids: Int[Tensor, "N S"], entry: FileEntry) -> bool:
        """Whether a file of the store holds these token ids; a damaged file is written again."""
        if entry["file"] not in self._damaged_tokens:
            return torch.equal(ids, read_tokens(self.folder / entry["file"]))
        if _write(self.folder, entry["file"], {"tokens": ids}) == entry:
            return True
        (self.folder / entry["file"]).unlink()
        return False

    def _save_manifest(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest)

    def _drop_damaged(self) -> None:
        """Remove damaged files from the manifest, so that they are written again.

        An interrupted harvest leaves only whole files, so it is enough to compare their sizes. If a finished store is
        harvested again, something may be wrong with it, so every checksum is compared.
        """
        compare_checksums = self.manifest["complete"]
        for shard in self.manifest["shards"]:
            if self._is_damaged(shard["tokens"], compare_checksums):
                self._damaged_tokens.add(shard["tokens"]["file"])
            damaged = [
                revision
                for revision, entry in shard["activations"].items()
                if self._is_damaged(entry, compare_checksums)
            ]
            for revision in damaged:
                del shard["activations"][revision]
                self.manifest["complete"] = False

    def _is_damaged(self, entry: FileEntry, compare_checksum: bool) -> bool:
        path = self.folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return True
        return compare_checksum and not is_intact(path, entry["sha256"])


@dataclass(frozen=True)
class _Activations:
    """Writes the files of activations of a store whose token ids are written.

    Attributes:
        folder: the store.
        made_from: what it is made from.
        site: where activations are read, such as ``Site(8)`` or ``"resid.8"``.
    """

    folder: Path
    made_from: MadeFrom
    site: Site

    def write(self, model: Model, revision: str, number: int) -> ActivationEntry:
        """Run a model on a shard and write its activations."""
        rows = self._read(model, read_tokens(self.folder / _tokens_file(number)))
        index = self.made_from["revisions"].index(revision)
        entry = _write(self.folder, f"shard-{number:05d}-{index}.safetensors", {"activations": rows})
        norms = torch.cat([token_norms(self.row_format.decode(chunk)) for chunk in rows.split(CHUNK)])
        if number == 0:
            warn_of_outliers(norms.unsqueeze(1), [revision])
        return ActivationEntry(**entry, norms=norms.double().sum().item())

    @property
    def row_format(self) -> RowFormat:
        """How a row is kept."""
        return RowFormat(self.made_from["dtype"])

    def _read(self, model: Model, ids: Int[Tensor, "N S"]) -> Shaped[Tensor, "T E"]:
        """Encoded activations of all tokens but each sequence's first."""
        activations = fetch(model, Sequences(ids.tolist()), [self.site])[self.site]
        rows = self.row_format.encode(activations.reshape(*ids.shape, -1)[:, 1:].flatten(0, 1))
        if rows.dtype == torch.float16 and not rows.isfinite().all():
            raise StoreError(f"activations of {model.name} at {self.site} are too large for float16; use bfloat16")
        return rows


def _tokens_file(number: int) -> str:
    """Name of the file with the token ids of a shard."""
    return f"shard-{number:05d}-tokens.safetensors"


def _write(folder: Path, name: str, tensors: dict[str, Tensor]) -> FileEntry:
    """Write a file of a store, and return its entry in the manifest."""
    path = folder / name
    write_tensors(path, tensors)
    return {"file": name, "bytes": path.stat().st_size, "sha256": checksum_of(path)}


def _is_temporary(path: Path) -> bool:
    """Whether a file is a temporary one of a harvest, written by `machine.storage` or by safetensors, or its lock."""
    if path.name == LOCK:
        return True
    from_storage = path.name.startswith(".tmp-") and path.name.endswith((".safetensors", MANIFEST))
    from_safetensors = re.fullmatch(r"\.tmp[0-9A-Za-z]{6}", path.name) is not None
    return from_storage or from_safetensors
