"""The server that runs a model, and how requests are sent to it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from interventions.errors import InterventionError
from interventions.remote.traffic import Traffic
from user_input.nearest import nearest

if TYPE_CHECKING:
    import torch

    from interventions.remote.server import Server

HOSTED = "https://api.ndif.us"
"""URL of the National Deep Inference Fabric's public server."""

NAMED, SIMULATED = "hosted", "local"
WIRES = ("float32", "bfloat16", "float16")
SANDBOXED = ("auto", True, False)


@dataclass(eq=False)
class Remote:
    """A server that runs models, and how requests are sent to it.

    The API key is read from the environment (``NDIF_API_KEY``) when a request is sent, and is stored nowhere.

    Attributes:
        host: URL of an NDIF server; or ``hosted``, which is the URL in the environment variable ``NDIF_HOST``, or the
            public server where that is not set; or ``local``, nnsight's simulation of a server, which runs here but
            sends every request through the same serialization and hides the modules that a server does not have.
        sandboxed: whether requests run in a sandbox, where there are no gradients; ``auto`` tests this once for each
            checkpoint.
        wire: float32, bfloat16 or float16, the dtype in which activations are sent and received. None is the dtype of
            the server's model.
        patience: longest time of one job in seconds, including its time in the queue.
        outage: seconds for which a server that has answered before may be unreachable while a job runs.
        stalled: seconds without news after which a job counts as lost and is sent again, if the server was unreachable
            since the job was sent, or if another program sent it. The job may be waiting in a long queue: do not set
            this too low.
        jobs: job ids by request, written before a job is waited for. A program that was stopped and uses the same
            mapping again resumes waiting for its jobs instead of sending them again.
        traffic: bytes and requests so far.
        facts: the dtype of each checkpoint on the server, and whether it has gradients.

    Raises:
        InterventionError: the host is not a URL, or another value is not allowed.

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
    facts: dict[str, dict[str, str | bool]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        argument = self.host
        if argument == NAMED:
            self.host = os.environ.get("NDIF_HOST", HOSTED)
        if self.host != SIMULATED and not self.host.startswith(("http://", "https://")):
            origin = "NDIF_HOST is" if argument == NAMED else "got"
            raise InterventionError(
                f"The host of a remote model is a URL that starts with http:// or https://, {NAMED!r}, which is the "
                f"public NDIF, or {SIMULATED!r}, which is a simulation; {origin} {self.host!r}."
            )
        self.host = self.host.rstrip("/")
        if self.sandboxed not in SANDBOXED:
            raise InterventionError(f"sandboxed must be 'auto', true or false, not {self.sandboxed!r}.")
        if self.wire is not None and self.wire not in WIRES:
            raise InterventionError(f"There is no wire dtype {self.wire!r}: {nearest(self.wire, WIRES)}")

    @classmethod
    def of(cls, remote: Remote | str | bool | None) -> Remote | None:
        """Make a `Remote` of an argument: None or False runs here, True is the hosted NDIF, a string is a `host`."""
        if remote is None or remote is False:
            return None
        if isinstance(remote, Remote):
            return remote
        return cls() if remote is True else cls(str(remote))

    @property
    def hosted(self) -> bool:
        """Whether this is a server, and not the simulation."""
        return self.host != SIMULATED

    @property
    def wire_dtype(self) -> torch.dtype | None:
        """The dtype that `wire` names."""
        import torch

        return None if self.wire is None else getattr(torch, self.wire)

    @cached_property
    def server(self) -> Server:
        """The connection to the host."""
        from interventions.remote.server import Server

        return Server(self.host, self.outage)
