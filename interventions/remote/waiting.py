"""Waiting for a server in a way that another thread can end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from interventions.errors import RemoteError

_of_thread = threading.local()


class StoppedError(RemoteError):
    """This thread's waiting was ended: another checkpoint failed, or the program is being stopped."""


@contextmanager
def until(stop: threading.Event) -> Iterator[None]:
    """Inside the block, `pause` of this thread ends as soon as `stop` is set.

    Examples:
        >>> stop = threading.Event()
        >>> stop.set()
        >>> try:
        ...     with until(stop):
        ...         pause(3600)
        ... except StoppedError:
        ...     print("stopped")
        stopped
    """
    _of_thread.stop = stop
    try:
        yield
    finally:
        del _of_thread.stop


def pause(seconds: float) -> None:
    """Sleep, or raise as soon as the thread is to stop.

    Raises:
        StoppedError: it is.
    """
    stop: threading.Event | None = getattr(_of_thread, "stop", None)
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise StoppedError("the waiting for a server was ended")
