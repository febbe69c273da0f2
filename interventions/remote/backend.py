"""What happens to a traced block that does not run here: it becomes a job, or a simulation of one."""

from __future__ import annotations

import io
import sys
import threading
import time
from typing import Any

import nnsight
import torch
from nnsight import TransformersModel
from nnsight.intervention.backends.local import LocalSimulationBackend
from nnsight.ndif import pull_env
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import Tracer, save
from nnsight.tracing.util import push

from interventions.errors import ServerError, TimeLimitError
from interventions.remote.captured import digest, refuse_another_model, taken
from interventions.remote.place import Remote
from interventions.remote.server import failure
from interventions.remote.waiting import pause

FIRST_POLL, LONGEST_POLL = 0.02, 1.0
UNKNOWN_FOR = 30.0
"""Seconds after which a job that the server has never heard of counts as lost."""
MOST_SUBMISSIONS = 3
_OURS = ("interventions", "crosstime", "tasks")
_serializing = threading.Lock()


def payload(tracer: Tracer) -> bytes:
    """The block as it travels: source, and what it names; our own functions with their source.

    Modules of this machine are announced to nnsight first, for a server has none of them. One thread at a time.
    """
    with _serializing:
        for name in _OURS:
            nnsight.register(name)
        pull_env()
        return RequestModel.serialize(tracer, compress=False)


class ServerBackend(Backend):
    """Run one trace as one job on a server, and wait for it.

    The job's id is in `Remote.jobs` before anything waits. A job that the server does not know (any more), or whose
    result is gone, is sent again; so is one of before an interruption of the server or of this program, of which
    nothing new was heard for `Remote.stalled` seconds: a server that dies keeps the last state of its jobs, and would
    tell it for ever.

    Raises:
        MixedModelsError: the block reaches into another model.
        RemoteError: one of its kinds, see `interventions.errors`.
    """

    def __init__(self, remote: Remote, model: TransformersModel, name: str) -> None:
        self.remote, self.model, self.name = remote, model, name
        self.server = remote.server

    def __call__(self, tracer: Tracer) -> None:
        """Send the block, wait, and write what it saved into the frame that it was written in."""
        source, values = taken(tracer)
        refuse_another_model(values, self.model.interleaver, self.name)
        key, jobs = self.model.to_model_key(), self.remote.jobs
        request, sealed = digest(f"{self.remote.host} {key}", source, values), payload(tracer)
        job, found = jobs.get(request), None
        # Of a job that is taken up, nobody knows what its server has been through.
        whole = None
        for _ in range(MOST_SUBMISSIONS):
            if job is None:
                job = self.server.submit(key, sealed, self.model._remoteable_get_env())
                self.remote.traffic.add(requests=1, sent=len(sealed))
                jobs[request], whole = job, self.server.interruptions
            found = self._wait(job, request, whole)
            if found is not None:
                break
            job = None
        else:
            raise ServerError(f"{self.remote.host} lost a job of {self.name} {MOST_SUBMISSIONS} times.")
        for value in found.values():
            save(value)
        push(tracer.info.frame, found)

    def _wait(self, job: str, request: str, whole: int | None) -> dict[str, Any] | None:
        """The saved values of a job, or None where it is lost.

        Args:
            job: its id.
            request: what it is known by in `Remote.jobs`.
            whole: the server's interruptions when it was sent; None where that was not now.
        """
        began = last_known = last_news = time.monotonic()
        delay, news = FIRST_POLL, None
        while True:
            response = self.server.status(job)
            now = time.monotonic()
            if response is None:
                if now - last_known > UNKNOWN_FOR:
                    return None
            else:
                last_known = now
                if response.status == "ERROR":
                    self.remote.jobs.pop(request, None)
                    raise failure(response.description, self.remote.host)
                if response.status == "COMPLETED":
                    return self._result(response.data)
                if news != (news := (response.status, response.description)):
                    last_news = now
                elif self.server.interruptions != whole and now - last_news > self.remote.stalled:
                    return None
            if now - began > self.remote.patience:
                raise TimeLimitError(
                    f"Job {job} of {self.name} at {self.remote.host} was not done after {self.remote.patience:g} s; "
                    "ask again later with the same jobs, or raise patience."
                )
            pause(delay)
            delay = min(1.3 * delay, LONGEST_POLL)

    def _result(self, url: object) -> dict[str, Any] | None:
        if not isinstance(url, str) or not url:
            raise ServerError(
                f"{self.remote.host} finished a job of {self.name}, but does not say where its result is."
            )
        content = self.server.download(url)
        if content is None:
            return None
        self.remote.traffic.add(received=len(content))
        try:
            # Only tensors and plain containers: a server cannot make this machine run code.
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ServerError(f"A result of {self.name} from {self.remote.host} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise ServerError(f"A job of {self.name} at {self.remote.host} returned a {type(found).__name__}.")
        return found


class SimulationBackend(Backend):
    """Run one trace here, through nnsight's serialization and with modules hidden that a server would not have."""

    def __init__(self, remote: Remote, model: TransformersModel, name: str) -> None:
        self.remote, self.model, self.name = remote, model, name

    def __call__(self, tracer: Tracer) -> None:
        """Serialize the block, read it back without this machine's modules, and run it."""
        _, values = taken(tracer)
        refuse_another_model(values, self.model.interleaver, self.name)
        self.remote.traffic.add(requests=1, sent=len(payload(tracer)))
        # nnsight puts the search path back in another order.
        searched = list(sys.path)
        try:
            LocalSimulationBackend(self.model)(tracer)
        finally:
            sys.path[:] = searched
