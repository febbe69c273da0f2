"""The table of a recipe about a server: ``[remote]``."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import one_of
from interventions.remote.remote import SANDBOXED, WIRES, Remote


@dataclass(frozen=True)
class RemoteRecipe:
    """The server that runs the checkpoints, if they do not run here; see `interventions.Remote`.

    Attributes:
        host: URL of an NDIF server, ``hosted`` for the public one, or ``local`` for a simulation; default: none.
        sandboxed: whether requests run in a sandbox, which has no gradients: true, false, or ``auto`` to find out.
        wire: dtype in which activations travel: float32, bfloat16 or float16; default: the server's own.
    """

    host: str | None = None
    sandboxed: str | bool = "auto"
    wire: str | None = None

    def __post_init__(self) -> None:
        if self.sandboxed not in SANDBOXED:
            raise RecipeError(f"sandboxed must be 'auto', true or false, not {self.sandboxed!r}.")
        one_of(self, wire=WIRES)
        self.open({})  # which refuses a host that is none

    def open(self, jobs: MutableMapping[str, str]) -> Remote | None:
        """The server; None where checkpoints run here.

        Args:
            jobs: where the ids of jobs are kept.
        """
        if self.host is None:
            return None
        return Remote(self.host, self.sandboxed, self.wire, jobs=jobs)
