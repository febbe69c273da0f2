"""The manifest of a run: reading it, and comparing files with the checksums in it. It needs no PyTorch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from crosstime.errors import RunError
from crosstime.machine.checksum import checksum_of
from crosstime.machine.storage import read_json

MANIFEST = "manifest.json"
PARTIAL = "partial"
LOCK = "run.lock"
"""Names in the folder of a run: its manifest, the folder of finished parts, and the lock of the process in it."""


def recipe_digest(recipe: object) -> str:
    """Digest of a recipe as the manifest records it, 16 hexadecimal digits.

    Examples:
        >>> recipe_digest({"name": "demo", "seed": 0}) == recipe_digest({"seed": 0, "name": "demo"})
        True
    """
    # Through JSON, so that a recipe in memory and the same one from a file have the same digest
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.setdefault("stages", {}), dict):
        raise RunError(f"{path} is not the manifest of a run; move it away to start from the beginning")
    forced = manifest.setdefault("forced", {})
    if not isinstance(forced, dict) or not all(isinstance(count, int) for count in forced.values()):
        raise RunError(f"{path} is damaged at 'forced'; move it away to start from the beginning")
    return manifest


def damaged(folder: Path, entry: object) -> list[str]:
    """Files of a stage that are missing or have another checksum than its entry in the manifest records.

    A name that leads out of the folder counts as damaged, and is not opened.
    """
    files = entry.get("files") if isinstance(entry, dict) else None
    if not isinstance(files, dict):
        return [MANIFEST]
    return [name for name, expected in files.items() if not _is_intact(folder, name, expected)]


def _is_intact(folder: Path, name: str, expected: object) -> bool:
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        return False
    path = folder / relative
    try:
        return path.is_file() and checksum_of(path) == expected
    except OSError:
        return False
