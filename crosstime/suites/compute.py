"""Where and how the checkpoints of a suite are run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from re import fullmatch
from typing import TYPE_CHECKING, TypeVar

import interventions
from crosstime.errors import CrosstimeError
from crosstime.machine.dtypes import DTYPES, torch_dtype
from interventions.default_budget import MAX_TOKENS
from interventions.remote.remote import Remote
from user_input.nearest import nearest

if TYPE_CHECKING:
    import torch

    from crosstime.suites.suite import Suite
    from interventions import Model

GPU_TOKENS = 16_384
"""Default batch budget on a GPU or a server; on a CPU it is `interventions.MAX_TOKENS`."""
IN_FLIGHT = 8
"""Largest number of checkpoints that are requested from a server at the same time."""
INTERRUPT_INTERVAL = 0.5
"""Seconds between two checks for an interrupt while checkpoints run on a server."""
DEVICES = ("cpu", "cuda", "mps")
"""Types of devices that checkpoints run on."""

Result = TypeVar("Result")


class _BatchBudget:
    """The batch budget of a `Compute` that names none, chosen when it is first needed: it asks PyTorch for a GPU."""

    def __get__(self, compute: Compute | None, owner: type[Compute]) -> int:
        if compute is None:
            return MAX_TOKENS
        here = not compute.hosted and compute.torch_device.type == "cpu"
        object.__setattr__(compute, "max_tokens", MAX_TOKENS if here else GPU_TOKENS)
        return compute.max_tokens


@dataclass(frozen=True, init=False)
class Compute:
    """Device, precision and batch budget of everything that runs a model.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; None takes the GPU if there is one.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        max_tokens: token positions, including padding, in one forward pass; by default 512 on a CPU and 16,384 on a
            GPU or a server.
        remote: None runs checkpoints on this machine. The URL of an NDIF server, True for the hosted NDIF, ``local``
            for a simulation, or an `interventions.Remote` runs them there, in the dtype of the server.
        feature_shards: number of processes of ``torchrun`` among which the features of a crosscoder are divided while
            it is trained; see `crosstime.train`.
        resident_gb: gigabytes on the device that checkpoints may take which stay open because they are needed again;
            0 keeps none, and None takes half of what is free. See `crosstime.suites.resident_checkpoints`.

    Raises:
        CrosstimeError: an unknown dtype or device, a budget or a number of shards below 1, or negative gigabytes.
        InterventionError: a value of `remote` that is not allowed.

    Examples:
        >>> Compute(max_tokens=1024).dtype
        'float32'
        >>> Compute(remote="http://127.0.0.1:8001").max_tokens
        16384
    """

    device: str | None = None
    dtype: str = "float32"
    max_tokens: int = _BatchBudget()  # type: ignore[assignment]  # a descriptor that gives an int
    remote: Remote | None = None
    feature_shards: int = 1
    resident_gb: float | int | None = None

    def __init__(
        self,
        device: str | None = None,
        dtype: str = "float32",
        max_tokens: int | None = None,
        remote: Remote | str | bool | None = None,
        feature_shards: int = 1,
        resident_gb: float | int | None = None,
    ) -> None:
        # Check dtype and device
        if dtype not in DTYPES:
            raise CrosstimeError(f"there is no dtype {dtype!r}: {nearest(str(dtype), DTYPES)}")
        object.__setattr__(self, "dtype", dtype)
        _refuse_unknown(device)
        object.__setattr__(self, "device", device)

        # Check the batch budget; without one, it depends on the machine that runs the model
        object.__setattr__(self, "remote", Remote.of(remote))
        if max_tokens is not None and max_tokens < 1:
            raise CrosstimeError(f"max_tokens must be at least 1, not {max_tokens}.")
        if max_tokens is not None:
            object.__setattr__(self, "max_tokens", max_tokens)

        # The crosscoder is divided into whole shards
        if feature_shards < 1:
            raise CrosstimeError(f"feature_shards must be at least 1, not {feature_shards}.")
        object.__setattr__(self, "feature_shards", feature_shards)

        # Memory of checkpoints that stay open
        if resident_gb is not None and not 0 <= resident_gb < float("inf"):
            raise CrosstimeError(f"resident_gb must be a number of gigabytes that is not negative, not {resident_gb}.")
        object.__setattr__(self, "resident_gb", resident_gb)

        # Ask PyTorch only for a device that needs it
        if device is not None and not device.startswith("cpu"):
            from crosstime.machine.devices import refuse_missing

            refuse_missing(device)

    @property
    def torch_device(self) -> torch.device:
        """The device on which tensors of this machine live."""
        import torch

        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def hosted(self) -> bool:
        """Whether a server runs the checkpoints."""
        return self.remote is not None and self.remote.hosted

    @property
    def precision(self) -> str:
        """The precision on which results depend, as part of a cache key: the dtype, or whose dtype it is."""
        return f"dtype of {self.remote.host}" if self.remote is not None and self.hosted else self.dtype

    def verify(self, suite: Suite, *, distinct: bool = False) -> None:
        """Check all checkpoints of a suite before the first is run; see `Suite.verify`.

        Of checkpoints that a server runs, the weight files are compared only as far as the Hub lists them.

        Args:
            suite: the checkpoints.
            distinct: also refuse two names of one step of training.

        Raises:
            SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        """
        suite.verify(distinct=distinct, weights_here=not self.hosted)

    def each(self, suite: Suite, work: Callable[[int, Model], Result]) -> list[Result]:
        """Call `work` with every checkpoint of a suite, and return its results in the order of the suite.

        On this machine, one checkpoint is in memory at a time. On a server, up to eight checkpoints are in flight at
        the same time, each in a thread of its own. When one of them fails, or the program is interrupted, the others
        stop waiting; their jobs stay on the server.

        Args:
            suite: the checkpoints.
            work: called with the index of a checkpoint in the suite, and its model.

        Raises:
            SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
            RemoteError: the server cannot be reached, or does not run a checkpoint.

        Examples:
            >>> Compute().each(suite, lambda index, model: model.d_model)  # doctest: +SKIP
            [64, 64, 64]
        """

        def run(checkpoint_index: int) -> Result:
            with self.open(suite, suite.revisions[checkpoint_index]) as model:
                return work(checkpoint_index, model)

        # This also reads the tokenizer once, before all threads read it at the same time.
        self.verify(suite)
        if not self.hosted:
            return [run(checkpoint_index) for checkpoint_index in range(len(suite))]
        return _in_threads(run, len(suite))

    def open(self, suite: Suite, revision: str) -> Model:
        """Load one checkpoint of a suite; close it, or use it as a context manager, before the next.

        Raises:
            SuiteError: the suite has no such revision, or a checkpoint of it cannot be used (`Suite.verify`).
            CheckpointLoadError: its weights cannot be read.
            RemoteError: the server cannot be reached, or does not run it.
        """
        checkpoint = suite[revision]
        self.verify(suite)
        if checkpoint.model is not None:
            return interventions.Model.wrap(
                checkpoint.model, suite.tokenizer, revision, remote=self.remote, max_tokens=self.max_tokens
            )
        # A branch may move, so that the commit whose weights were compared with the others is the one that is opened
        commit = None if checkpoint.hub_revision is None or self.hosted else suite.weights(revision).commit
        model = interventions.Model.open(
            checkpoint.source,
            revision=commit or checkpoint.hub_revision,
            tokenizer=suite.tokenizer,
            device=self.torch_device,
            dtype=torch_dtype(self.dtype),
            trust_remote_code=suite.trust_remote_code,
            remote=self.remote,
            max_tokens=self.max_tokens,
        )
        if commit is not None:
            model.name = f"{checkpoint.source}@{checkpoint.hub_revision}"
        if self.remote is not None and self.hosted and model.dtype != torch_dtype(self.dtype):
            warnings.warn(
                f"{self.remote.host} runs {model.name} in {str(model.dtype).removeprefix('torch.')}, not in "
                f"{self.dtype}: numbers are those of its dtype.",
                RuntimeWarning,
                stacklevel=2,
            )
        return model


def _refuse_unknown(device: str | None) -> None:
    """Refuse a device that checkpoints cannot run on, whatever this machine has.

    Raises:
        CrosstimeError: it is not one of `DEVICES`, alone or with an index.
    """
    if device is not None and not fullmatch(rf"({'|'.join(DEVICES)})(:\d+)?", device):
        raise CrosstimeError(f"there is no device {device!r}, alone or with a number: {nearest(str(device), DEVICES)}")


def _in_threads(work: Callable[[int], Result], count: int) -> list[Result]:
    """Call `work` with 0 to ``count - 1``, up to `IN_FLIGHT` at a time, and end all waiting as soon as one fails."""
    from interventions.remote.pause import until

    stop = threading.Event()

    def run(index: int) -> Result:
        with until(stop):
            return work(index)

    pool = ThreadPoolExecutor(min(IN_FLIGHT, count))
    try:
        futures = [pool.submit(run, index) for index in range(count)]
        ended = _wait(futures)
        return [future.result() for future in futures if future in ended]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _wait(futures: list[Future[Result]]) -> set[Future[Result]]:
    """Wait until all futures have ended, or one has failed; the main thread notices an interrupt in between.

    The wait is cut into intervals because a signal that arrives after Python's last check and before the lock is
    acquired does not wake the main thread: it would notice the interrupt only when a thread ends.
    """
    from interventions.remote.pause import pause

    while True:
        # Where the threads were started from a thread that is to end, they end with it
        pause(0.0)
        ended, pending = wait(futures, timeout=INTERRUPT_INTERVAL, return_when=FIRST_EXCEPTION)
        if not pending or any(future.exception() is not None for future in ended):
            return ended
