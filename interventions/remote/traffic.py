"""Bytes and requests that went over the wire."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(eq=False)
class Traffic:
    """Number of requests, and bytes sent and received.

    Examples:
        >>> traffic = Traffic()
        >>> traffic.add(sent=2_000, requests=1)
        >>> str(traffic)
        '1 request, 2.0 kB sent, 0.0 kB received'
    """

    requests: int = 0
    sent: int = 0
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, sent: int = 0, received: int = 0) -> None:
        """Add to the counts; safe to call from several threads."""
        with self._lock:
            self.requests += requests
            self.sent += sent
            self.received += received

    def __str__(self) -> str:
        sent, received = (
            f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB" for size in (self.sent, self.received)
        )
        return f"{self.requests} request{'s' * (self.requests != 1)}, {sent} sent, {received} received"
