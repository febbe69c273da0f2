"""A block of memory that the processes of one machine share."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from crosstime.machine.memory import in_bytes
from crosstime.machine.processes import Processes

SHARED_MEMORY = Path("/dev/shm")
"""Folder whose files are in main memory, on Linux."""


def shared_bytes(n_bytes: int, processes: Processes) -> UInt8[Tensor, " N"] | None:
    """Bytes that all processes of a machine see; what one of them writes, the others read.

    The memory is freed when the last of the processes has ended, however it ends: the file that names it is removed as
    soon as all of them have opened it.

    Args:
        n_bytes: size of the block.
        processes: of one machine; all of them call this together.

    Returns:
        The block; None, with a warning, if the machine does not have so much shared memory.

    Examples:
        >>> shared_bytes(3, Processes()).tolist()
        [0, 0, 0]
    """
    # The first process reserves the memory: without that, a full file system would kill whoever writes to the block
    path, reason = "", ""
    if processes.first:
        try:
            path = _reserve(n_bytes)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
    path, reason = processes.gather([path, reason])[0]
    if not path:
        if processes.first:
            warnings.warn(
                f"the processes of this machine cannot share {in_bytes(n_bytes)} of memory in {_folder()} ({reason}): "
                "each of them keeps a buffer of its own",
                RuntimeWarning,
                stacklevel=2,
            )
        return None

    # Once everyone has it, the file needs no name
    block = torch.from_file(path, shared=True, size=n_bytes, dtype=torch.uint8)
    processes.barrier()
    if processes.first:
        Path(path).unlink()
    return block


def _folder() -> Path:
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


def _reserve(n_bytes: int) -> str:
    """The name of a new file whose bytes are reserved."""
    descriptor, path = tempfile.mkstemp(prefix="crosstime-", dir=_folder())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, n_bytes)
        else:  # macOS
            os.truncate(descriptor, n_bytes)
    except OSError:
        Path(path).unlink()
        raise
    finally:
        os.close(descriptor)
    return path
