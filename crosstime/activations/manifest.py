"""What the manifest of a store of activations must say, so that nothing that reads the store trips over it."""

from __future__ import annotations

from typing import Any

from crosstime.machine.storage import is_plain_name
from crosstime.suites.compute import DTYPES
from interventions import Site

TOKEN_BYTES = 4
"""Token ids are int32."""


def check_manifest(manifest: dict[str, Any]) -> None:
    """Make sure that a manifest is one that `crosstime.harvest` could have written.

    Files are names in the store's own folder, and none is too small for the tokens it is said to hold, so that a
    manifest leads nowhere else, and cannot ask for more memory than there is disk.

    Raises:
        KeyError: something is missing.
        ValueError: something is of another kind or size; names it.

    Examples:
        >>> check_manifest({"made_from": {"revisions": "main"}})
        Traceback (most recent call last):
        ValueError: revisions must be a list of texts
    """
    made_from = _is(manifest["made_from"], dict, "made_from", "an object")
    revisions = _is(made_from["revisions"], list, "revisions", "a list of texts")
    if not revisions or not all(isinstance(name, str) for name in revisions) or len(set(revisions)) < len(revisions):
        raise ValueError("revisions must be a list of different texts")
    Site.parse(_is(made_from["site"], str, "site", "a text"))
    dtype = _is(made_from["dtype"], str, "dtype", "a text")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}")
    width = _count(made_from, "d_model", least=1)
    length = _count(made_from, "sequence_length", least=2)
    text = _is(manifest["text"], dict, "text", "an object")
    _is(text["digest"], str, "digest", "a text")
    done = _is(manifest["complete"], bool, "complete", "true or false")
    written = _is(text["complete"], bool, "complete", "true or false")
    for shard in _is(manifest["shards"], list, "shards", "a list"):
        n = _count(_is(shard, dict, "a shard", "an object"), "sequences", least=1)
        _check_file(shard["tokens"], n * length * TOKEN_BYTES)
        activations = _is(shard["activations"], dict, "activations", "an object")
        if not set(activations) <= set(revisions) or (done and len(activations) < len(revisions)):
            raise ValueError("activations must be of the revisions, and of all of them in a store that is complete")
        for entry in activations.values():
            _check_file(entry, n * (length - 1) * width * DTYPES[dtype].itemsize)
            _positive(entry["norms"], "norms")
    if done:
        scales = _is(manifest["scales"], list, "scales", "a list")
        if not written or not manifest["shards"] or len(scales) != len(revisions):
            raise ValueError("a store that is complete has a text, shards, and a scale for each revision")
        for scale in scales:
            _positive(scale, "a scale")


def _check_file(entry: Any, least: int) -> None:
    name = _is(_is(entry, dict, "a file", "an object")["file"], str, "file", "a text")
    if not is_plain_name(name):
        raise ValueError(f"file {name[:100]!r} does not lie in the store's folder")
    _is(entry["sha256"], str, "sha256", "a text")
    if _count(entry, "bytes", least=0) < least:
        raise ValueError(f"file {name[:100]!r} is too small for what it is said to hold")


def _is(value: Any, kind: type, what: str, wanted: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{what} must be {wanted}")
    return value


def _count(table: dict[str, Any], key: str, *, least: int) -> int:
    value = table[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}")
    return value


def _positive(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{what} must be a positive number")
