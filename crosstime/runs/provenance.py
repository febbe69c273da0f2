"""What a run was computed with: versions, source commit, peak memory."""

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
    """Commit of the source that runs, from its checkout or from pip's record; None if neither has one."""
    git = Path(__file__).resolve().parents[2] / ".git"
    return _checked_out_commit(git) if git.is_dir() else _installed_commit()


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory() -> int | None:
    """Largest size of all tensors on the GPU so far, in bytes; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _checked_out_commit(git: Path) -> str | None:
    """The commit that a checkout's HEAD points to."""
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        branch = head.removeprefix("ref: ")
        if branch == head:
            return head
        if (git / branch).is_file():
            return (git / branch).read_text(encoding="utf-8").strip()
        for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(f" {branch}"):
                return line.split()[0]
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _installed_commit() -> str | None:
    """The commit that pip recorded, if it installed from a repository."""
    try:
        record = distribution("crosstime").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(record).get("vcs_info", {}).get("commit_id") if record else None
