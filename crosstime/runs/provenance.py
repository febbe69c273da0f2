"""What a run was done with: versions, source commit, peak memory."""

from __future__ import annotations

import json
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on.

    Examples:
        >>> sorted(versions())
        ['crosstime', 'nnsight', 'python', 'torch', 'transformers']
    """
    names = ("crosstime", "torch", "nnsight", "transformers")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def source_commit() -> str | None:
    """Commit of the source that runs, from its checkout or from how pip got it; None where neither tells."""
    checkout = Path(__file__).resolve().parents[1] / ".git"
    return _checked_out(checkout) if checkout.is_dir() else _installed()


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory() -> int | None:
    """Largest size of all tensors on the GPU so far, in bytes; None without one."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _checked_out(git: Path) -> str | None:
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        if (git / name).is_file():
            return (git / name).read_text(encoding="utf-8").strip()
        for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(f" {name}"):
                return line.split()[0]
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _installed() -> str | None:
    try:
        told = distribution("crosstime").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(told).get("vcs_info", {}).get("commit_id") if told else None
