"""One run in a folder at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosstime.errors import RunError

LOCK = "run.lock"


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a run folder while the block runs; a second run into it is refused.

    The lock belongs to the process, not to the file: when a process dies, by whatever cause, its lock is gone,
    and the file that it left is no obstacle.

    Raises:
        RunError: another process holds the folder, or the lock's file cannot be made.

    Examples:
        >>> import tempfile
        >>> with only_run(Path(tempfile.mkdtemp())) as held:
        ...     held
    """
    path = folder / LOCK
    descriptor = _taken(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def holder(folder: Path) -> str | None:
    """Which process runs in a folder, in words; None where none does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 200).decode(errors="replace") or "another process"
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _taken(path: Path) -> int:
    """An open descriptor of the lock's file, locked."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"cannot write in the run folder {path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise RunError(
                f"a run is going on in {path.parent} ({who}): wait until it ends, or choose another folder with --runs"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise RunError(f"cannot lock the run folder {path.parent}: {error.strerror}") from error
        # A run that has just ended may have removed the file between opening and locking.
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
