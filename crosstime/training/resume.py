"""Saved states of a training run: weights, optimisers, counters and position in the data, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.activations.buffer_state import BufferState
from crosstime.crosscoders.crosscoder_file import FEATURE_AXES
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.lock import exclusive
from crosstime.machine.part_names import is_sharded
from crosstime.machine.processes import ALONE, Processes
from crosstime.machine.sharded_tensors import ShardedTensors, remove_parts, write_sharded_tensors
from crosstime.machine.tensors import TensorError, check_tensor, read_header, read_tensors, write_tensors
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.trainer import Trainer
from user_input.parse_json import parse_json
from user_input.reason import reason

FORMAT = "crosstime-training-1"
SEVERAL = "crosstime-trainings-1"
"""Format of the state of several crosscoders that are trained together."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_BUFFER_COUNTS = {"tokens": int, "sequences": int, "digest": str, "exhausted": bool}
_FACTS = {"step": int, "identity": dict, "log": list, "buffer": dict}
"""Keys of the file's JSON header, and their types."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that the rest of a training run depends on.

    Attributes:
        step: the next step to take.
        identities: for each crosscoder, its configuration, checkpoints, site and buffer; a run resumes only if its own
            are the same.
        logs: for each crosscoder, the rows logged so far.
        tensors: tensors of crosscoder, optimiser and trainer, by name; of several crosscoders, the index of a
            crosscoder comes first.
        buffer: position in the data, which all crosscoders share.
    """

    step: int
    identities: tuple[dict[str, object], ...]
    logs: tuple[list[dict[str, int | float]], ...]
    tensors: dict[str, Shaped[Tensor, ...]]
    buffer: BufferState

    @classmethod
    def of(
        cls,
        trainers: Sequence[Trainer],
        buffer: BufferState,
        step: int,
        logs: Sequence[list[dict[str, int | float]]],
        settings: Mapping[str, object],
    ) -> TrainingState:
        """The state of a run after `step` steps.

        Args:
            trainers: the trainers with their crosscoders and optimisers.
            buffer: state of the training batches.
            step: number of steps taken.
            logs: rows logged so far, for each crosscoder.
            settings: plain values that decide about the result, apart from those in the crosscoders' origins.

        Raises:
            CrosscoderError: a weight is not finite, so that the state must not replace the last good one.
        """
        tensors: dict[str, Tensor] = {}
        for index, trainer in enumerate(trainers):
            prefix = _prefix(index, len(trainers))
            tensors |= {f"{prefix}{name}": tensor for name, tensor in _tensors_of_trainer(trainer, step).items()}
        identities = tuple(_identity(trainer.crosscoder.origin, settings) for trainer in trainers)
        return cls(step, identities, tuple(list(log) for log in logs), tensors, buffer)

    def restore(self, trainers: Sequence[Trainer]) -> None:
        """Put the saved weights, moments and counters into new trainers of the same configurations.

        Raises:
            CrosscoderError: a tensor is missing, or has another shape or dtype.
        """
        for index, trainer in enumerate(trainers):
            self._restore(trainer, _prefix(index, len(trainers)))

    def _restore(self, trainer: Trainer, prefix: str) -> None:
        crosscoder = trainer.crosscoder
        crosscoder.load_state_dict(self._tensors_of(f"{prefix}crosscoder", crosscoder.state_dict()))

        for name, parameter in crosscoder.named_parameters():
            expected = {moment: torch.tensor(0.0) if moment == "step" else parameter for moment in _MOMENTS}
            moments = self._tensors_of(f"{prefix}optimizer.{name}", expected)
            # The fused optimiser walks through memory, so the moments need the parameter's strides.
            trainer.optimizer.state[parameter] = {
                "step": moments.pop("step").clone().to(parameter.device),
                **{moment: torch.empty_like(parameter.detach()).copy_(value) for moment, value in moments.items()},
            }

        device = crosscoder.W_dec.device
        counters = self._tensors_of(f"{prefix}trainer", trainer.counters())
        trainer.resume(self.step, {name: counter.to(device) for name, counter in counters.items()})

    def _tensors_of(self, part: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The saved tensors of one part of the trainer, checked against the shapes and dtypes of `expected`."""
        try:
            return {
                name: check_tensor(
                    f"{part}.{name}", self.tensors.get(f"{part}.{name}"), tuple(like.shape), (like.dtype,)
                )
                for name, like in expected.items()
            }
        except TensorError as error:
            raise CrosscoderError(
                f"Cannot resume training: the saved state does not fit this crosscoder: {error}; delete the file to "
                "train from the beginning."
            ) from error

    def refuse_other(self, origins: Sequence[Origin], settings: Mapping[str, object]) -> None:
        """Make sure that a run with the same configurations saved the state.

        Raises:
            CrosscoderError: the configuration differs; the message lists the differences.
        """
        if len(origins) != len(self.identities):
            raise CrosscoderError(
                f"The training that was interrupted at step {self.step} was of {len(self.identities)} crosscoders, and "
                f"this one is of {len(origins)}. Use the same configurations, or delete the saved state to train from "
                "the beginning."
            )
        differences = []
        for origin, saved in zip(origins, self.identities, strict=True):
            identity = _identity(origin, settings)
            differences += [
                f"{name} was {saved.get(name)!r} and is now {identity.get(name)!r}"
                for name in sorted(identity.keys() | saved.keys())
                if identity.get(name) != saved.get(name)
            ]
        if differences:
            raise CrosscoderError(
                f"The training that was interrupted at step {self.step} had another configuration: "
                f"{'; '.join(differences)}. Use the same configuration, or delete the saved state to train from the "
                "beginning."
            )

    def save(self, path: str | Path, shards: Processes = ALONE) -> None:
        """Write the state to one safetensors file, or to one for each shard with an index, atomically.

        Args:
            path: the file.
            shards: processes among which the features are divided; all of them call this together.

        Raises:
            RunError: a file cannot be written; a state that was saved there before is intact.
        """
        buffer = {
            "buffer.held": self.buffer.activations,
            "buffer.generator": self.buffer.generator,
            "buffer.scales": self.buffer.scales,
        }
        if self.buffer.medians is not None:
            buffer["buffer.medians"] = self.buffer.medians
        counts = {name: getattr(self.buffer, name) for name in _BUFFER_COUNTS}
        several = len(self.identities) > 1
        facts = {
            "step": self.step,
            "identity": list(self.identities) if several else self.identities[0],
            "log": list(self.logs) if several else self.logs[0],
            "buffer": counts | {"left_out": self.buffer.left_out},
        }
        metadata = {"format": SEVERAL if several else FORMAT, "facts": json.dumps(facts)}

        # A run that resumes with another number of shards leaves no state of the earlier number behind.
        if shards.size == 1:
            write_tensors(Path(path), self.tensors | buffer, metadata)
            remove_parts(path)
            return
        axes = {name: axis for name in self.tensors if (axis := _feature_axis(name)) is not None}
        write_sharded_tensors(path, self.tensors | buffer, axes, metadata, generation=str(self.step), processes=shards)
        if shards.first:
            Path(path).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, shard: FeatureShard | None = None) -> TrainingState:
        """Read a state that `save` wrote.

        Args:
            path: the file.
            shard: the features whose weights, moments and counters are read; None for all. It need not be one of the
                shards that wrote the state.

        Raises:
            CrosscoderError: a file is damaged, or is not the saved state of a training run.
        """
        try:
            tensors, metadata = _read(path, shard)
            if metadata.get("format") not in (FORMAT, SEVERAL):
                raise RunError(f"{path} is not the state of a training: its format is {metadata.get('format')!r}")
            several = metadata["format"] == SEVERAL
            facts = parse_json(metadata["facts"])
            _check_types(path, facts, _FACTS | {"identity": list if several else dict})
            identities, logs = (facts["identity"], facts["log"]) if several else ([facts["identity"]], [facts["log"]])
            if len(identities) != len(logs) or not all(isinstance(identity, dict) for identity in identities):
                raise TypeError(f"{path} is damaged at 'identity'")
            _check_types(path, facts["buffer"], _BUFFER_COUNTS)
            buffer = BufferState(
                activations=tensors.pop("buffer.held"),
                generator=tensors.pop("buffer.generator"),
                scales=tensors.pop("buffer.scales"),
                tokens=facts["buffer"]["tokens"],
                sequences=facts["buffer"]["sequences"],
                digest=facts["buffer"]["digest"],
                exhausted=facts["buffer"]["exhausted"],
                medians=tensors.pop("buffer.medians", None),
                left_out=int(facts["buffer"].get("left_out", 0)),
            )
            return cls(facts["step"], tuple(identities), tuple(logs), tensors, buffer)
        except (RunError, KeyError, TypeError, ValueError) as error:
            raise CrosscoderError(f"Cannot resume training: {reason(error)}") from error


@dataclass(frozen=True)
class Checkpointer:
    """Saves the state of a training run at regular intervals, and loads what an interrupted run saved.

    Attributes:
        checkpointing: where and how often.
        settings: plain values that decide about the result, apart from those in the crosscoder's origin.
    """

    checkpointing: Checkpointing
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file; None if nothing is saved."""
        return None if self.checkpointing.path is None else Path(self.checkpointing.path)

    @property
    def has_state(self) -> bool:
        """Whether there is a saved state to resume from."""
        return self.path is not None and (self.path.exists() or is_sharded(self.path))

    def alone(self) -> AbstractContextManager[None]:
        """Refuse a second training run with the same saved state while the block runs.

        Raises:
            RunError: another process trains with it, or its folder cannot be written to.
        """
        if self.path is None:
            return nullcontext()
        lock = self.path.with_name(f"{self.path.name}.lock")
        return exclusive(lock, work="a training run", instead="choose another folder")

    def load(self, origins: Sequence[Origin], shard: FeatureShard | None = None) -> TrainingState | None:
        """The state that an interrupted run saved, of all features or those of a shard; None if there is none.

        Args:
            origins: of each crosscoder that is trained.
            shard: the features that this process holds.

        Raises:
            CrosscoderError: the file is damaged, or was saved by a run with another configuration.
        """
        if self.path is None or not self.has_state:
            return None
        state = TrainingState.load(self.path, shard)
        state.refuse_other(origins, self.settings)
        return state

    def is_due(self, step: int, n_steps: int) -> bool:
        """Whether to save after a step. The last step is never saved, because training ends there."""
        return self.path is not None and (step + 1) % self.checkpointing.every == 0 and step + 1 < n_steps

    def save(
        self,
        trainers: Sequence[Trainer],
        batches: ShuffledBuffer,
        step: int,
        logs: Sequence[list[dict[str, int | float]]],
    ) -> None:
        """Save the state after `step` steps; of the processes that hold the same features, the first one saves."""
        if self.path is not None and trainers[0].processes.first:
            state = TrainingState.of(trainers, batches.state(), step, logs, self.settings)
            state.save(self.path, trainers[0].shards)


def _prefix(index: int, n_trainers: int) -> str:
    """What the names of a crosscoder's tensors begin with: nothing for one that is trained alone."""
    return f"{index}." if n_trainers > 1 else ""


def _tensors_of_trainer(trainer: Trainer, step: int) -> dict[str, Tensor]:
    """Weights, optimiser moments and the trainer's own counters.

    Raises:
        CrosscoderError: a weight is not finite.
    """
    crosscoder = trainer.crosscoder
    for name, parameter in crosscoder.named_parameters():
        if not parameter.isfinite().all():
            raise CrosscoderError(f"Training diverged by step {step}: {name} has numbers that are not finite.")
    tensors = {f"crosscoder.{name}": tensor for name, tensor in crosscoder.state_dict().items()}
    for name, parameter in crosscoder.named_parameters():
        moments = trainer.optimizer.state[parameter]
        tensors |= {f"optimizer.{name}.{moment}": moments[moment] for moment in _MOMENTS}
    return tensors | {f"trainer.{name}": counter for name, counter in trainer.counters().items()}


def _read(path: str | Path, shard: FeatureShard | None) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """The tensors of a state, of those with features only the shard's, and the strings stored with them."""
    if is_sharded(path):
        sharded = ShardedTensors.open(path)
        span = (0, sharded.length) if shard is None else (shard.start, shard.stop)
        return sharded.read(*span), sharded.metadata
    if shard is None or shard.processes.size == 1:
        return read_tensors(path)
    names, _ = read_header(path)
    axes = {name: _feature_axis(name) for name in names}
    spans = {name: (axis, shard.start, shard.stop) for name, axis in axes.items() if axis is not None}
    return read_tensors(path, spans=spans)


def _feature_axis(name: str) -> int | None:
    """The axis of the features in a tensor of the state; None if it has none."""
    part, _, rest = name.partition(".")
    if part == "trainer":
        return 0
    if part == "optimizer":
        rest, _, moment = rest.rpartition(".")
        return None if moment == "step" else FEATURE_AXES.get(rest)
    return FEATURE_AXES.get(rest) if part == "crosscoder" else None


def _check_types(path: str | Path, table: Mapping[str, object], types: Mapping[str, type]) -> None:
    for name, kind in types.items():
        if not isinstance(table[name], kind):
            raise TypeError(f"{path} is damaged at {name!r}")


def _identity(origin: Origin, settings: Mapping[str, object]) -> dict[str, object]:
    values = asdict(origin)
    flat = values.pop("training") | values | dict(settings) | {"site": str(origin.site), "torch": torch.__version__}
    # Through JSON, so that the state in memory compares equal to one from a file.
    return dict(json.loads(json.dumps(flat)))
