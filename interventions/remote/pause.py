"""Pauses between requests to a server, which another thread can interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from interventions.errors import RemoteError

_thread = threading.local()


class StoppedError(RemoteError):
    """A pause of this thread was interrupted, because another checkpoint failed or the program is being stopped."""


@contextmanager
def until(stop: threading.Event) -> Iterator[None]:
    """Inside this context, calls of `pause` in the current thread raise as soon as `stop` is set.

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
    _thread.stop = stop
    try:
        yield
    finally:
        del _thread.stop


def pause(seconds: float | int) -> None:
    """Sleep, unless the event that was given to `until` is set.

    Raises:
        StoppedError: the event is set before the time is over.
    """
    stop: threading.Event | None = getattr(_thread, "stop", None)
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise StoppedError("the waiting for a server was ended")
