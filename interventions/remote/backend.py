"""nnsight backends for a traced block that does not run here: as a job on a server, or in a simulation of one."""

from __future__ import annotations

import io
import sys
import threading
import time

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
from interventions.remote.capture import capture, digest, reject_other_models
from interventions.remote.pause import pause
from interventions.remote.remote import Remote
from interventions.remote.server import failure

FIRST_POLL, LONGEST_POLL = 0.02, 1.0
UNKNOWN_FOR = 30.0
"""Seconds after which a job that the server does not know counts as lost."""
MAX_SUBMISSIONS = 3
_OUR_PACKAGES = ("interventions", "crosstime", "tasks")
_serializing = threading.Lock()


def backend(remote: Remote, model: TransformersModel, name: str) -> Backend:
    """Return what runs one trace of `model`: a request to the server, or the simulation of one."""
    return (ServerBackend if remote.hosted else SimulationBackend)(remote, model, name)


def serialize(tracer: Tracer) -> bytes:
    """Serialize a block: its source and the values that it captures, with the source of our own functions.

    The modules of this machine are registered with nnsight first, because a server has none of them. Only one thread
    serializes at a time.
    """
    with _serializing:
        for name in _OUR_PACKAGES:
            nnsight.register(name)
        pull_env()
        return RequestModel.serialize(tracer, compress=False)


class ServerBackend(Backend):
    """Run one trace as a job on a server, and wait for its result.

    The job's id is stored in `Remote.jobs` before anything waits for it. A job is sent again if the server does not
    know it, or no longer has its result. It is also sent again if there was no news of it for `Remote.stalled` seconds
    after an interruption of the server or of this program, because a server that was restarted may report the last
    state of its jobs forever.

    Raises:
        MixedModelsError: the block reaches into another model.
        RemoteError: one of its subclasses, see `interventions.errors`.
    """

    def __init__(self, remote: Remote, model: TransformersModel, name: str) -> None:
        self.remote, self.model, self.name = remote, model, name
        self.server = remote.server

    def __call__(self, tracer: Tracer) -> None:
        """Send the block, wait for the job, and write its saved values into the frame that contains the block."""
        # Describe the request
        source, values = capture(tracer)
        reject_other_models(values, self.model.interleaver, self.name)
        key, jobs = self.model.to_model_key(), self.remote.jobs
        request, payload = digest(f"{self.remote.host} {key}", source, values), serialize(tracer)

        # Submit it, or resume waiting for the job of an earlier run, whose server may have been interrupted since
        job, result = jobs.get(request), None
        interruptions: int | None = None
        for _ in range(MAX_SUBMISSIONS):
            if job is None:
                job = self.server.submit(key, payload, self.model._remoteable_get_env())
                self.remote.traffic.add(requests=1, sent=len(payload))
                jobs[request], interruptions = job, self.server.interruptions
            result = self._wait(job, request, interruptions)
            if result is not None:
                break
            job = None
        else:
            raise ServerError(f"{self.remote.host} lost a job of {self.name} {MAX_SUBMISSIONS} times.")

        # Hand the saved values to nnsight
        for value in result.values():
            save(value)
        push(tracer.info.frame, result)

    def _wait(self, job: str, request: str, interruptions: int | None) -> dict[str, object] | None:
        """Wait for a job and return its saved values, or None if it is lost.

        Args:
            job: its id.
            request: its key in `Remote.jobs`.
            interruptions: the number of the server's interruptions when the job was sent; None if an earlier run sent
                it.
        """
        began = last_known = last_news = time.monotonic()
        delay, news = FIRST_POLL, None
        while True:
            response = self.server.status(job)
            now = time.monotonic()

            # A job that the server does not know for long is lost
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

                # So is one without news for long, if the server may have forgotten it
                if news != (news := (response.status, response.description)):
                    last_news = now
                elif self.server.interruptions != interruptions and now - last_news > self.remote.stalled:
                    return None

            if now - began > self.remote.patience:
                raise TimeLimitError(
                    f"Job {job} of {self.name} at {self.remote.host} was not done after {self.remote.patience:g} s; "
                    "ask again later with the same jobs, or raise patience."
                )
            pause(delay)
            delay = min(1.3 * delay, LONGEST_POLL)

    def _result(self, url: object) -> dict[str, object] | None:
        """Download the saved values of a finished job; None if the server no longer has them."""
        if not isinstance(url, str) or not url:
            raise ServerError(
                f"{self.remote.host} finished a job of {self.name}, but does not say where its result is."
            )
        content = self.server.download(url)
        if content is None:
            return None
        self.remote.traffic.add(received=len(content))
        try:
            # Only tensors and plain containers, so that a server cannot make this machine run code
            result = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ServerError(f"A result of {self.name} from {self.remote.host} cannot be read: {error}") from error
        if not isinstance(result, dict):
            raise ServerError(f"A job of {self.name} at {self.remote.host} returned a {type(result).__name__}.")
        return result


class SimulationBackend(Backend):
    """Run one trace here, through nnsight's serialization and without the modules that a server does not have."""

    def __init__(self, remote: Remote, model: TransformersModel, name: str) -> None:
        self.remote, self.model, self.name = remote, model, name

    def __call__(self, tracer: Tracer) -> None:
        """Serialize the block, deserialize it without this machine's modules, and run it."""
        _, values = capture(tracer)
        reject_other_models(values, self.model.interleaver, self.name)
        self.remote.traffic.add(requests=1, sent=len(serialize(tracer)))
        # nnsight restores the search path in another order
        search_path = list(sys.path)
        try:
            LocalSimulationBackend(self.model)(tracer)
        finally:
            sys.path[:] = search_path
