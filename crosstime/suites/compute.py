"""Where and how a checkpoint is run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from crosstime.errors import CrosstimeError
from crosstime.suites.suite import Suite
from interventions import MAX_TOKENS, Model, Remote
from interventions.remote.waiting import until
from user_input.nearest import nearest

GPU_TOKENS = 16_384
IN_FLIGHT = 8
"""Most checkpoints that a server is asked for at the same time."""
Found = TypeVar("Found")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Device, precision and batch budget of everything that runs a model.

    Attributes:
        device: cpu, cuda, cuda:1 ...; None takes the GPU where there is one.
        dtype: float32, bfloat16 or float16.
        max_tokens: slots, padding included, in one forward pass; default 512 on a CPU and 16,384 on a GPU or server.
        remote: None runs checkpoints here; the URL of an NDIF server, True for the hosted one, ``local`` for a
            simulation, or an `interventions.Remote`, runs them there, in the server's dtype.

    Raises:
        CrosstimeError: an unknown dtype or device, or a budget below 1.
        InterventionError: `remote` is none of these.

    Examples:
        >>> Compute(max_tokens=1024).dtype
        'float32'
    """

    device: str | None = None
    dtype: str = "float32"
    max_tokens: int | None = None
    remote: Remote | str | bool | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CrosstimeError(f"there is no dtype {self.dtype!r}: {nearest(str(self.dtype), DTYPES)}")
        try:
            _ = self.torch_device
        except RuntimeError as error:
            raise CrosstimeError(f"there is no device {self.device!r}; name one like cpu, cuda or cuda:1.") from error
        object.__setattr__(self, "remote", Remote.of(self.remote))
        if self.max_tokens is None:
            small = self.torch_device.type == "cpu" and not self.hosted
            object.__setattr__(self, "max_tokens", MAX_TOKENS if small else GPU_TOKENS)
        if self.max_tokens < 1:
            raise CrosstimeError(f"max_tokens must be at least 1, not {self.max_tokens}.")

    @property
    def torch_device(self) -> torch.device:
        """The device that `device` stands for."""
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def hosted(self) -> bool:
        """Whether a server runs the checkpoints."""
        return self.remote is not None and self.remote.hosted

    @property
    def precision(self) -> str:
        """What numbers depend on beside the checkpoint: the dtype here, or whose dtype it is."""
        return f"dtype of {self.remote.host}" if self.hosted else self.dtype

    def at(self, remote: Remote | str | bool | None) -> Compute:
        """The same, on a server if one is named.

        Examples:
            >>> Compute().at("http://127.0.0.1:8001").max_tokens
            16384
        """
        if remote is None:
            return self
        default = Compute(self.device, self.dtype).max_tokens
        return replace(self, remote=remote, max_tokens=None if self.max_tokens == default else self.max_tokens)

    def each(self, suite: Suite, work: Callable[[int, Model], Found]) -> list[Found]:
        """What `work` makes of every checkpoint of a suite, in order.

        Here, one checkpoint is in memory at a time. On a server each has its own requests, and those of up to eight
        checkpoints are in flight at the same time. When one fails, or the program is interrupted, the others stop
        waiting; their jobs stay where they are.

        Args:
            suite: whose checkpoints.
            work: takes a checkpoint's place in the suite, and its model.
        """

        def of(place: int) -> Found:
            with self.open(suite, suite.revisions[place]) as model:
                return work(place, model)

        if not self.hosted:
            return [of(place) for place in range(len(suite))]
        # The tokenizer is read once, before the threads would all read it.
        _ = suite.tokenizer
        stop = threading.Event()

        def unless_stopped(place: int) -> Found:
            with until(stop):
                return of(place)

        with ThreadPoolExecutor(min(IN_FLIGHT, len(suite))) as pool:
            try:
                running = [pool.submit(unless_stopped, place) for place in range(len(suite))]
                ended, _ = wait(running, return_when=FIRST_EXCEPTION)
                return [one.result() for one in running if one in ended]
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def open(self, suite: Suite, revision: str) -> Model:
        """Load one checkpoint of a suite; close it, or use it as a context, before the next.

        Raises:
            SuiteError: the suite has no such revision.
            CheckpointLoadError: its weights cannot be read.
            RemoteError: the server is not there, or does not run it.
        """
        checkpoint = suite[revision]
        model = Model.open(
            checkpoint.source,
            revision=checkpoint.hub_revision,
            tokenizer=suite.tokenizer,
            device=self.torch_device,
            dtype=DTYPES[self.dtype],
            remote=self.remote,
            max_tokens=self.max_tokens,
        )
        if self.hosted and model.dtype != DTYPES[self.dtype]:
            warnings.warn(
                f"{self.remote.host} runs {model.name} in {str(model.dtype).removeprefix('torch.')}, not in "
                f"{self.dtype}: numbers are those of its dtype.",
                RuntimeWarning,
                stacklevel=2,
            )
        return model
