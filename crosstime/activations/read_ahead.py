"""What a buffer reads from its source at a time, now or ahead in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from crosstime.activations.token_rows import Share
from interventions.remote.pause import until


@dataclass(frozen=True)
class Position:
    """How far a source has been read.

    Attributes:
        sequences: number of sequences of a text, or of blocks of a store.
        digest: digest of the text read so far, or of the store.

    Examples:
        >>> Position(2, "e3b0c442").sequences
        2
    """

    sequences: int
    digest: str


@dataclass(frozen=True, eq=False)
class Reading:
    """A process's share of new tokens, and how far the source has been read with them."""

    share: Share
    position: Position


class ReadAhead:
    """Reads what the next filling of a buffer needs in a thread, while the buffer is served.

    One reading at a time is under way. An error in the thread is raised where its result is asked for.

    Args:
        read: reads a number of tokens. When reading is to end early, `interventions.remote.pause.pause` raises in it.

    Examples:
        >>> import torch
        >>> source = ReadAhead(lambda n: Reading(Share(torch.zeros(n, 1, 2)), Position(n, "")))
        >>> source.start(3)
        >>> len(source.result(3).share.rows)
        3
    """

    def __init__(self, read: Callable[[int], Reading]) -> None:
        self._read = read
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crosstime-read-ahead")
        self._stop = threading.Event()
        self._under_way: tuple[int, Future[Reading]] | None = None

    def start(self, n_tokens: int) -> None:
        """Start to read a number of tokens."""
        self._under_way = n_tokens, self._executor.submit(self._read_until_stopped, n_tokens)

    def result(self, n_tokens: int) -> Reading:
        """The tokens that were read ahead, or that are read now if none were."""
        if self._under_way is None:
            return self._read(n_tokens)
        n_ahead, reading = self._under_way
        self._under_way = None
        assert n_ahead == n_tokens, "the next filling was foreseen to be of another size"
        return reading.result()

    def close(self) -> None:
        """End the reading that is under way, and the thread."""
        self._under_way = None
        self._stop.set()
        self._executor.shutdown(cancel_futures=True)

    def _read_until_stopped(self, n_tokens: int) -> Reading:
        with until(self._stop):
            return self._read(n_tokens)
