"""The manifest of an activation store: its content, and the checks that every reader of a store relies on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar, cast

from crosstime.errors import RunError, StoreError
from crosstime.machine.dtypes import ROW_FORMATS, torch_dtype
from crosstime.machine.storage import is_plain_name, read_json
from crosstime.suites.allowances import Allowances
from interventions import Site
from user_input.home import expanded
from user_input.reason import reason

FORMAT = "crosstime-activations-1"
MANIFEST = "manifest.json"
TOKEN_BYTES = 4
"""Token ids are int32."""

Kind = TypeVar("Kind")


class FileEntry(TypedDict):
    """A file of a store: its name in the store's folder, its size in bytes, and its SHA-256 in hex."""

    file: str
    bytes: int
    sha256: str


class ActivationEntry(FileEntry):
    """A file of activations, with the sum of the norms of its rows."""

    norms: float


class Shard(TypedDict):
    """A shard: its number of sequences, its file of token ids, and its file of activations for each checkpoint."""

    sequences: int
    tokens: FileEntry
    activations: dict[str, ActivationEntry]


class MadeFrom(TypedDict):
    """Suite, site, tokenizer and settings of the harvest, which together decide the content of a store.

    The ids of the tokens with which documents begin are there if there are any.
    """

    suite: str
    revisions: list[str]
    site: str
    d_model: int
    tokenizer: str
    tokens: int | None
    sequence_length: int
    dtype: str
    shard_tokens: int
    model_dtype: str
    fingerprint: str
    text_start: NotRequired[list[int]]


class StoredText(TypedDict):
    """The text of a store: whether all of its token ids are written, where it came from, and a digest of them."""

    complete: bool
    source: str | None
    digest: str


class Manifest(Allowances):
    """The content of ``manifest.json``; the scales are there once the store is complete."""

    format: str
    made_from: MadeFrom
    complete: bool
    text: StoredText
    shards: list[Shard]
    scales: NotRequired[list[float]]


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check the manifest of a store.

    Raises:
        StoreError: the manifest is missing, damaged, or that of something else.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise StoreError(f"there is no activation store in {folder}: it has no {MANIFEST}")
    try:
        manifest = read_json(path)
    except RunError as error:
        raise StoreError(str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is not the manifest of an activation store ({FORMAT})")
    try:
        check_manifest(manifest)
    except KeyError as error:
        raise StoreError(f"{path} is damaged: it has no {error}") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {reason(error)}") from error
    return cast(Manifest, manifest)


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check that a manifest is one that `crosstime.harvest` could have written.

    Files must be plain names in the store's own folder and large enough for the tokens that they are said to hold, so
    that a manifest cannot point outside its folder, nor ask for more memory than there is on the disk.

    Raises:
        KeyError: a key is missing.
        ValueError: a value has the wrong type or size; the message names it.

    Examples:
        >>> check_manifest({"made_from": {"revisions": "main"}})
        Traceback (most recent call last):
        ValueError: revisions must be a list
    """
    # What the store was made from.
    made_from = _typed(manifest["made_from"], dict, "made_from", "an object")
    revisions = _typed(made_from["revisions"], list, "revisions", "a list")
    if not revisions or not all(isinstance(name, str) for name in revisions) or len(set(revisions)) < len(revisions):
        raise ValueError("revisions must be a list of distinct strings")
    Site.parse(_typed(made_from["site"], str, "site", "a string"))
    dtype = _typed(made_from["dtype"], str, "dtype", "a string")
    if dtype not in ROW_FORMATS:
        raise ValueError(f"dtype must be one of {', '.join(ROW_FORMATS)}")
    d_model = _count(made_from, "d_model", minimum=1)
    sequence_length = _count(made_from, "sequence_length", minimum=2)
    start = _typed(made_from.get("text_start", []), list, "text_start", "a list")
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in start):
        raise ValueError("text_start must be a list of token ids")

    # The text, and what is finished.
    text = _typed(manifest["text"], dict, "text", "an object")
    _typed(text["digest"], str, "digest", "a string")
    store_complete = _typed(manifest["complete"], bool, "complete", "true or false")
    text_complete = _typed(text["complete"], bool, "complete", "true or false")

    # The files of every shard.
    shards = _typed(manifest["shards"], list, "shards", "a list")
    for shard in shards:
        n_sequences = _count(_typed(shard, dict, "a shard", "an object"), "sequences", minimum=1)
        _check_file(shard["tokens"], n_sequences * sequence_length * TOKEN_BYTES)
        activations = _typed(shard["activations"], dict, "activations", "an object")
        if not set(activations) <= set(revisions) or (store_complete and len(activations) < len(revisions)):
            raise ValueError("activations must belong to the revisions, and to all of them in a complete store")
        for entry in activations.values():
            _check_file(entry, n_sequences * (sequence_length - 1) * d_model * torch_dtype(dtype).itemsize)
            _check_positive(entry["norms"], "norms")

    # The scales of a complete store.
    if store_complete:
        scales = _typed(manifest["scales"], list, "scales", "a list")
        if not text_complete or not shards or len(scales) != len(revisions):
            raise ValueError("a complete store has a complete text, shards, and one scale for each revision")
        for scale in scales:
            _check_positive(scale, "a scale")


def refuse_differences(folder: Path, made_from: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Compare the settings of a store with expected ones.

    Raises:
        StoreError: they differ; the message lists the differences.
    """
    differences = [
        f"{name} was {made_from.get(name)!r} and is now {value!r}"
        for name, value in expected.items()
        if made_from.get(name) != value
    ]
    if differences:
        raise StoreError(f"the store {folder} was made with other settings: {'; '.join(differences)}")


def _check_file(entry: Any, min_bytes: int) -> None:
    name = _typed(_typed(entry, dict, "a file", "an object")["file"], str, "file", "a string")
    if not is_plain_name(name):
        raise ValueError(f"file {name[:100]!r} does not lie in the store's folder")
    _typed(entry["sha256"], str, "sha256", "a string")
    if _count(entry, "bytes", minimum=0) < min_bytes:
        raise ValueError(f"file {name[:100]!r} is too small for the tokens that it is said to hold")


def _typed(value: Any, kind: type[Kind], name: str, description: str) -> Kind:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {description}")
    return value


def _count(table: Mapping[str, Any], key: str, *, minimum: int) -> int:
    value = table[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{key} must be a whole number of at least {minimum}")
    return value


def _check_positive(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number")


def has_manifest(folder: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a store of activations, finished or not."""
    try:
        return (expanded(folder) / MANIFEST).is_file()
    except (OSError, ValueError):  # not a valid file name
        return False
