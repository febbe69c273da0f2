"""SHA-256 of large files, each read once: later calls, also of other processes, take it from the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs

from crosstime.errors import RunError
from crosstime.machine.progress import Bar, track
from crosstime.machine.storage import read_json, write_json
from user_input.home import expanded

CACHE_VARIABLE = "CROSSTIME_CACHE"
"""Environment variable that names another folder for the cache of this user."""
_BLOCK = 1 << 23
_THREADS = 8
_SETTLED = 2_000_000_000
"""Nanoseconds after which a file counts as no longer written to: some file systems count time in steps of 2 s."""
_WITH_BAR = 1 << 30
"""Bytes from which on a progress bar is worth its line."""


def cache_folder() -> Path:
    """The folder of crosstime's cache: ``CROSSTIME_CACHE``, or the place that the platform has for caches of a user.

    Examples:
        >>> cache_folder().is_absolute()
        True
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    return expanded(chosen).absolute() if chosen else platformdirs.user_cache_path("crosstime", False)


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of every byte of some files, in hexadecimal.

    A digest is remembered with the file's place, size, times of change and inode, and computed again when one of them
    differs. It is not remembered if the file was written to within the last two seconds, since a second change could
    leave all of them as they are. A cache that cannot be written, as in a home that is read-only, costs only time.

    Args:
        paths: the files; several are read at the same time.

    Raises:
        OSError: a file cannot be read.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "abc"
        >>> _ = path.write_bytes(b"abc")
        >>> file_digests([path])[path][:16]
        'ba7816bf8f01cfea'
    """
    # Take what is known
    places = {path: path.resolve() for path in paths}
    states = {place: _state(place) for place in set(places.values())}
    digests = {place: digest for place, state in states.items() if (digest := _remembered(place, state)) is not None}

    # Read the other files
    unread = sorted(set(states) - set(digests))
    total = sum(states[place]["size"] for place in unread)
    if total < _WITH_BAR:
        digests |= _read_all(unread, Bar())
    else:
        with track("Hashing weights (MiB)", total // (1 << 20), "MiB") as bar:
            digests |= _read_all(unread, bar)

    # Remember what did not change meanwhile
    for place in unread:
        settled = time.time_ns() - max(states[place]["mtime_ns"], states[place]["ctime_ns"]) > _SETTLED
        if settled and _state(place) == states[place]:
            remember(_entry_of(place), states[place] | {"place": str(place), "sha256": digests[place]})
    return {path: digests[place] for path, place in places.items()}


def remember(path: Path, value: dict[str, Any]) -> None:
    """Write an entry of the cache; one that cannot be written is left out."""
    try:
        write_json(path, value)
    except (RunError, OSError):
        return


def recall(path: Path) -> dict[str, Any] | None:
    """Read an entry of the cache; None if there is none, or it is damaged."""
    try:
        value = read_json(path)
    except (RunError, OSError):
        return None
    return value if isinstance(value, dict) else None


def entry_path(kind: str, *identity: str) -> Path:
    """The path of a cache entry, by its kind and what it is about."""
    return cache_folder() / kind / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}.json"


def _entry_of(place: Path) -> Path:
    return entry_path("digests", str(place))


def _state(place: Path) -> dict[str, int]:
    """What changes when a file is written or replaced."""
    status = place.stat()
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
        "device": status.st_dev,
    }


def _remembered(place: Path, state: dict[str, int]) -> str | None:
    """The digest of a file in this state, if the cache has it."""
    entry = recall(_entry_of(place))
    if entry is None or entry.get("place") != str(place):
        return None
    digest = entry.get("sha256")
    same = all(entry.get(name) == value for name, value in state.items())
    return digest if same and isinstance(digest, str) and len(digest) == 64 else None


def _read_all(places: list[Path], bar: Bar) -> dict[Path, str]:
    """Hash files in threads, which stop when one of them fails or the program is interrupted."""
    stop = threading.Event()

    def read(place: Path) -> str:
        digest, block = hashlib.sha256(), bytearray(_BLOCK)
        view = memoryview(block)
        with place.open("rb", buffering=0) as file:
            while not stop.is_set() and (size := file.readinto(block)):
                digest.update(view[:size])
                bar.advance(size >> 20)
        return digest.hexdigest()

    if len(places) <= 1:
        return {place: read(place) for place in places}
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1, len(places)))
    try:
        return dict(zip(places, pool.map(read, places), strict=True))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
