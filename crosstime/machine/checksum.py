"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, checksum: str) -> bool:
    """Whether a file is there, can be read, and has a checksum."""
    try:
        return checksum_of(path) == checksum
    except OSError:
        return False
