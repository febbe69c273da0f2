"""Where a model runs when it does not run here, and what went over the wire."""

from __future__ import annotations

import os
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from interventions.errors import InterventionError
from user_input.nearest import nearest

if TYPE_CHECKING:
    from nnsight import TransformersModel
    from nnsight.tracing.backend import Backend

    from interventions.remote.server import Server

HOSTED = "https://api.ndif.us"
"""The National Deep Inference Fabric's own server."""

NAMED, SIMULATED = "hosted", "local"
WIRES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SANDBOXED = ("auto", True, False)


@dataclass(eq=False)
class Traffic:
    """What was sent and received, in bytes, and in how many requests.

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
        """Count; safe from several threads."""
        with self._lock:
            self.requests += requests
            self.sent += sent
            self.received += received

    def __str__(self) -> str:
        sent, received = (
            f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB" for size in (self.sent, self.received)
        )
        return f"{self.requests} request{'s' * (self.requests != 1)}, {sent} sent, {received} received"


@dataclass(eq=False)
class Remote:
    """A server that runs models, and how it is to be asked.

    The API key is read from the environment (``NDIF_API_KEY``) when a request is sent, and kept nowhere.

    Attributes:
        host: URL of an NDIF server; ``hosted``, the public one, or what ``NDIF_HOST`` in the environment says; or
            ``local``, nnsight's simulation, which runs here but sends every request through the same serialization as
            a server's, hiding modules that a server does not have.
        sandboxed: whether requests run in a sandbox, where there are no gradients; ``auto`` tries it, once for
            each checkpoint.
        wire: float32, bfloat16 or float16: what activations are sent and received in. None is the server's own.
        patience: seconds that one job may take, its time in the queue included.
        outage: seconds that a server which has answered before may stay away in the middle of a job.
        stalled: seconds without news after which a job counts as lost and is sent again, if the server was away since
            it was sent, or another program sent it. It may have a place in a long queue: do not set it too low.
        jobs: where the ids of jobs are written before they are waited for. With the same mapping, a program that
            was stopped takes up its jobs where they are instead of sending them again.
        traffic: what went over the wire so far.
        facts: what each checkpoint's server said of it: dtype, gradients.

    Raises:
        InterventionError: the host is no URL, or a value is not allowed.

    Examples:
        >>> Remote("http://127.0.0.1:8001", sandboxed=False).hosted
        True
        >>> Remote.of("local").hosted
        False
    """

    host: str = NAMED
    sandboxed: str | bool = "auto"
    wire: str | None = None
    patience: float = 3600.0
    outage: float = 120.0
    stalled: float = 300.0
    jobs: MutableMapping[str, str] = field(default_factory=dict, repr=False)
    traffic: Traffic = field(default_factory=Traffic)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        given = self.host
        if given == NAMED:
            self.host = os.environ.get("NDIF_HOST", HOSTED)
        if self.host != SIMULATED and not self.host.startswith(("http://", "https://")):
            origin = "NDIF_HOST is" if given == NAMED else "got"
            raise InterventionError(
                f"A model runs remotely at a URL that starts with http:// or https://, at {NAMED!r}, which is the "
                f"public NDIF, or at {SIMULATED!r}, which is a simulation; {origin} {self.host!r}."
            )
        self.host = self.host.rstrip("/")
        if self.sandboxed not in SANDBOXED:
            raise InterventionError(f"sandboxed is 'auto', true or false, not {self.sandboxed!r}.")
        if self.wire is not None and self.wire not in WIRES:
            raise InterventionError(f"There is no wire dtype {self.wire!r}: {nearest(self.wire, WIRES)}")

    @classmethod
    def of(cls, place: Remote | str | bool | None) -> Remote | None:
        """A `Remote` from what callers write: None or False is here, True the hosted NDIF, else a `host`."""
        if place is None or place is False:
            return None
        if isinstance(place, Remote):
            return place
        return cls() if place is True else cls(str(place))

    @property
    def hosted(self) -> bool:
        """Whether there is a server, rather than a simulation of one."""
        return self.host != SIMULATED

    @property
    def wire_dtype(self) -> torch.dtype | None:
        """The dtype that `wire` names."""
        return None if self.wire is None else WIRES[self.wire]

    @cached_property
    def server(self) -> Server:
        """The connection to the host."""
        from interventions.remote.server import Server

        return Server(self.host, self.outage)

    def backend(self, model: TransformersModel, name: str) -> Backend:
        """What runs one trace of `model`: a request to the server, or the simulation of one."""
        from interventions.remote.backend import ServerBackend, SimulationBackend

        return (ServerBackend if self.hosted else SimulationBackend)(self, model, name)
