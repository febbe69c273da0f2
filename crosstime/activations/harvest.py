"""Write the activations of a suite's checkpoints to disk, one checkpoint after the other."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.activations.store import (
    FORMAT,
    MANIFEST,
    ActivationStore,
    checksum_of,
    read_manifest,
    read_tokens,
    refuse_differences,
    scales_of,
)
from crosstime.errors import StoreError
from crosstime.machine.progress import Bar, track
from crosstime.machine.storage import write_json
from crosstime.machine.tensors import write_tensors
from crosstime.suites.compute import DTYPES, Compute
from crosstime.suites.corpus import documents, sequences
from crosstime.suites.fingerprint import tokenizer_hash
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from interventions import Model, Sequences, Site, fetch
from user_input.nearest import nearest


def harvest(
    suite: Suite,
    site: Site,
    corpus: TextSource | Iterable[str],
    folder: str | Path,
    *,
    tokens: int | None = None,
    sequence_length: int = 1024,
    dtype: str = "bfloat16",
    shard_tokens: int = 1 << 17,
    compute: Compute = Compute(),
) -> ActivationStore:
    """Run a text through every checkpoint once and keep the activations at one site on disk.

    The text is cut into sequences first; their token ids are written too. Then each checkpoint is opened once and
    writes its file of every shard, so one model is in memory at a time. Files are written whole or not at all and noted
    in ``manifest.json`` with their checksums: a harvest that was interrupted at any moment goes on when it is called
    again, and makes anew what is missing or damaged. The scales ``s_c = sqrt(D) / E||x_c||`` come out of the same pass.
    Disk: tokens x C x D x 2 bytes (4 in float32).

    Args:
        suite: the C checkpoints.
        site: where activations are read.
        corpus: text files, a Hub data set (``hf:ORG/NAME``), or an iterable of documents; read once, in order.
        folder: of the store; made if missing.
        tokens: tokens to keep, rounded down to whole sequences, as far as the text goes; None takes all of it.
        sequence_length: S; the first token of each sequence is left out.
        dtype: float32, bfloat16 or float16: how activations are kept.
        shard_tokens: tokens of a shard, rounded to whole sequences.
        compute: how the checkpoints are run.

    Raises:
        StoreError: the folder holds a store of something else (the differences are listed), the disk has not the
            room, numbers do not fit the dtype, or a sequence, shard or number of tokens is too small.
        CorpusError: text that cannot be read, or is too short for one sequence.
        RunError: a file cannot be written.

    Examples:
        >>> store = harvest(suite, Site(1), "corpus.txt.gz", "activations", tokens=1_000_000)  # doctest: +SKIP
        >>> trained = ct.train(suite, Site(1), store, config)  # doctest: +SKIP
    """
    folder, resolved = Path(folder), site.resolve(suite.n_layers)
    if sequence_length < 2:
        raise StoreError(f"sequences need at least 2 tokens, not {sequence_length}: the first of each is left out")
    if dtype not in DTYPES:
        raise StoreError(f"there is no dtype {dtype!r}: {nearest(dtype, DTYPES)}")
    kept = sequence_length - 1
    if shard_tokens < 1 or (tokens is not None and tokens < kept):
        raise StoreError(f"a store needs at least one sequence of {kept} tokens, and shards of at least one token")
    made_from = {
        "suite": suite.name, "revisions": list(suite.revisions),
        "site": str(resolved), "d_model": suite.d_model, "tokenizer": tokenizer_hash(suite.tokenizer),
        "tokens": tokens, "sequence_length": sequence_length, "dtype": dtype, "shard_tokens": shard_tokens,
        "model_dtype": compute.precision, "fingerprint": suite.fingerprint,
    }  # fmt: skip
    lines, _ = documents(corpus)
    rows = sequences(lines, suite.tokenizer, sequence_length)
    if tokens is not None:
        rows = islice(rows, tokens // kept)
    work = _Harvest(folder, made_from, max(1, shard_tokens // kept), compute, resolved)
    work.write_text(rows, corpus)
    work.refuse_without_room()
    missing = work.missing()
    with track("Harvesting activations", sum(len(shards) for shards in missing.values())) as bar:
        for revision, shards in missing.items():
            if shards:
                bar.note(revision)
                with compute.open(suite, revision) as model:
                    work.write_activations(model, revision, shards, bar)
    work.finish()
    return ActivationStore.open(folder)


class _Harvest:
    """A store in the making: its manifest, and the files that are still missing."""

    def __init__(self, folder: Path, made_from: dict[str, Any], per_shard: int, compute: Compute, site: Site) -> None:
        self.folder, self.per_shard, self.compute, self.site = folder, per_shard, compute, site
        self.made_from = made_from
        self.manifest: dict[str, Any] = {
            "format": FORMAT, "made_from": made_from, "complete": False,
            "text": {"complete": False, "source": None, "digest": ""}, "shards": [],
        }  # fmt: skip
        self._lost: set[str] = set()
        if (folder / MANIFEST).is_file():
            self.manifest = read_manifest(folder)
            refuse_differences(folder, self.manifest["made_from"], made_from)
            self._find_damaged()
        elif folder.exists() and (not folder.is_dir() or any(not _temporary(path) for path in folder.iterdir())):
            raise StoreError(f"{folder} exists and is not a store of activations: choose another folder")
        for left in list(folder.glob(".tmp*")):
            if _temporary(left):
                left.unlink()

    def write_text(self, rows: Iterator[Int[Tensor, " S"]], corpus: Any) -> None:
        """Write the token ids of every shard that has none yet, and note how many shards there are."""
        shards, text = self.manifest["shards"], self.manifest["text"]
        digest = hashlib.sha256()
        # What is there must begin as this text does, or shards of two texts would stand in one store.
        again = len(shards) if self._lost or not text["complete"] else min(1, len(shards))
        for number in range(again):
            ids, entry = self._stacked(rows), shards[number]["tokens"]
            path = self.folder / entry["file"]
            if ids is not None and entry["file"] in self._lost:
                same = self._write(entry["file"], {"tokens": ids}) == entry
                if not same:
                    path.unlink()
            else:
                same = ids is not None and torch.equal(ids, read_tokens(path))
            if not same:
                raise StoreError(f"the store {self.folder} was made from another text; choose another folder")
            digest.update(ids.numpy().tobytes())
        if text["complete"]:
            return
        while (ids := self._stacked(rows)) is not None:
            if not shards:
                self._save()
            digest.update(ids.numpy().tobytes())
            entry = self._write(f"shard-{len(shards):05d}-tokens.safetensors", {"tokens": ids})
            shards.append({"sequences": len(ids), "tokens": entry, "activations": {}})
            self._save()
        source = corpus if isinstance(corpus, str | Path) else None
        text.update(complete=True, digest=digest.hexdigest(), source=None if source is None else str(source))
        self._save()

    def refuse_without_room(self) -> None:
        """Refuse a harvest that the disk cannot take, before it begins."""
        size = DTYPES[self.made_from["dtype"]].itemsize * self.made_from["d_model"]
        kept = self.made_from["sequence_length"] - 1
        shards = self.manifest["shards"]
        needed = sum(shards[n]["sequences"] * kept * size for numbers in self.missing().values() for n in numbers)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StoreError(
                f"the store {self.folder} needs {needed / 1e9:,.1f} GB more, but its disk has {free / 1e9:,.1f} GB "
                "free: take fewer tokens, or train without a store"
            )

    def missing(self) -> dict[str, list[int]]:
        """Shards that each checkpoint has still to write."""
        shards = self.manifest["shards"]
        return {
            revision: [n for n, shard in enumerate(shards) if revision not in shard["activations"]]
            for revision in self.made_from["revisions"]
        }

    def write_activations(self, model: Model, revision: str, shards: list[int], bar: Bar) -> None:
        """Write one checkpoint's file of each of these shards."""
        column = self.made_from["revisions"].index(revision)
        for number in shards:
            shard = self.manifest["shards"][number]
            x = self._activations(model, read_tokens(self.folder / shard["tokens"]["file"]))
            entry = self._write(f"shard-{number:05d}-{column}.safetensors", {"activations": x})
            norms = x.float().norm(dim=-1).double().sum().item()
            written = shard["activations"] | {revision: entry | {"norms": norms}}
            # In their order, so that a store that was mended is the same file for file.
            shard["activations"] = {name: written[name] for name in self.made_from["revisions"] if name in written}
            self._save()
            bar.advance()

    def finish(self) -> None:
        """Note the scales, and that nothing is missing."""
        shards = self.manifest["shards"]
        n_tokens = sum(shard["sequences"] for shard in shards) * (self.made_from["sequence_length"] - 1)
        sums = [sum(s["activations"][name]["norms"] for s in shards) for name in self.made_from["revisions"]]
        self.manifest["scales"] = scales_of(sums, n_tokens, self.made_from["d_model"])
        self.manifest["complete"] = True
        self._save()

    def _activations(self, model: Model, ids: Int[Tensor, "N S"]) -> Float[Tensor, "T D"]:
        dtype = DTYPES[self.made_from["dtype"]]
        found = fetch(model, Sequences(ids.tolist()), [self.site])[self.site]
        x = found.reshape(*ids.shape, -1)[:, 1:].to(dtype).flatten(0, 1)
        if dtype == torch.float16 and not x.isfinite().all():
            raise StoreError(f"activations of {model.name} at {self.site} are too large for float16; take bfloat16")
        return x

    def _stacked(self, rows: Iterator[Int[Tensor, " S"]]) -> Int[Tensor, "N S"] | None:
        taken = list(islice(rows, self.per_shard))
        return torch.stack(taken).to(torch.int32) if taken else None

    def _write(self, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
        path = self.folder / name
        write_tensors(path, tensors)
        return {"file": name, "bytes": path.stat().st_size, "sha256": checksum_of(path)}

    def _save(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest)

    def _find_damaged(self) -> None:
        """Strike out files that are not as they were written, so that they are made anew.

        A harvest that was interrupted left whole files only, so their size is enough; a finished one is asked for again
        because something is wrong with it, so there every checksum is compared.
        """
        check = self.manifest["complete"]
        for shard in self.manifest["shards"]:
            if self._damaged(shard["tokens"], check):
                self._lost.add(shard["tokens"]["file"])
            for revision in [name for name, entry in shard["activations"].items() if self._damaged(entry, check)]:
                del shard["activations"][revision]
                self.manifest["complete"] = False

    def _damaged(self, entry: dict[str, Any], check: bool) -> bool:
        path = self.folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return True
        return check and checksum_of(path) != entry["sha256"]


def _temporary(path: Path) -> bool:
    """Whether a file was being written when a harvest was killed, by us or by safetensors (which names its own)."""
    ours = path.name.startswith(".tmp-") and path.name.endswith((".safetensors", MANIFEST))
    return ours or re.fullmatch(r"\.tmp[0-9A-Za-z]{6}", path.name) is not None
