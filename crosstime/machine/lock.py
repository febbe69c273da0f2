"""Locks of folders and files that one process at a time may write."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosstime.errors import RunError


@contextmanager
def exclusive(path: Path, *, work: str, instead: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; a second process that asks for it is refused.

    The lock belongs to the process, not to the file: when a process dies, for whatever reason, its lock is released,
    and the file that it left behind does not block the next one.

    Args:
        path: the lock file, in the folder that is written to; the folder is made if it is missing.
        work: what is going on there, for the error.
        instead: what the second process can do rather than wait, for the error.

    Raises:
        RunError: another process holds the lock, or the lock file cannot be made.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "run.lock"
        >>> with exclusive(path, work="a run", instead="choose another folder"):
        ...     lock_holder(path) is not None
        True
    """
    # Make the folder, which does not stay behind if the block leaves it empty
    created = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {path.parent}: {error.strerror}") from error

    # Hold the lock
    descriptor = _acquire(path, work, instead)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        if created and not any(path.parent.iterdir()):
            path.parent.rmdir()


def lock_holder(path: Path) -> str | None:
    """The process that holds a lock file, in words; None if it is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _acquire(path: Path, work: str, instead: str) -> int:
    """Open the lock file and lock it; returns the descriptor."""
    while True:
        # Open the file
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"cannot write in the folder {path.parent}: {error.strerror}") from error

        # Lock it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise RunError(
                f"{work} is going on in {path.parent} ({holder}): wait until it ends, or {instead}"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise RunError(f"cannot lock the folder {path.parent}: {error.strerror}") from error

        # A process that has just ended may have removed the file between opening and locking: try again
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _read_holder(descriptor: int) -> str:
    """What the holder of a lock wrote into its file."""
    return os.read(descriptor, 200).decode(errors="replace") or "another process"
