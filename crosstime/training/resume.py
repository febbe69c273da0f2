"""An interrupted training as one file: weights, optimiser, counters and the place in the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from crosstime.activations.buffer import BufferState
from crosstime.crosscoders.crosscoder import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import read_tensors, write_tensors
from crosstime.training.trainer import Trainer
from user_input.first_line import first_line
from user_input.parse_json import parse_json

FORMAT = "crosstime-training-1"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that the rest of a training depends on.

    Attributes:
        step: the next one.
        identity: configuration, checkpoints, site and buffer; only the same may go on.
        log: rows logged so far.
        tensors: of crosscoder, optimiser and trainer, by name.
        buffer: place in the data.
    """

    step: int
    identity: dict[str, Any]
    log: list[dict[str, int | float]]
    tensors: dict[str, Shaped[Tensor, ...]]
    buffer: BufferState

    @classmethod
    def of(
        cls, trainer: Trainer, buffer: BufferState, step: int, log: list[dict[str, int | float]], **options: Any
    ) -> TrainingState:
        """The state after ``step`` steps.

        Raises:
            CrosscoderError: a weight is not a finite number; such a state is not worth keeping.
        """
        crosscoder = trainer.crosscoder
        for name, parameter in crosscoder.named_parameters():
            if not parameter.isfinite().all():
                raise CrosscoderError(f"Training diverged by step {step}: {name} has numbers that are not finite.")
        tensors = {f"crosscoder.{name}": tensor for name, tensor in crosscoder.state_dict().items()}
        for name, parameter in crosscoder.named_parameters():
            moments = trainer.optimizer.state[parameter]
            tensors |= {f"optimizer.{name}.{moment}": moments[moment] for moment in _MOMENTS}
        tensors |= {f"trainer.{name}": value for name, value in trainer.counters().items()}
        return cls(step, _identity(crosscoder.origin, options), list(log), tensors, buffer)

    def put_into(self, trainer: Trainer) -> None:
        """Give a new trainer of the same configuration the state of the one that was interrupted.

        Raises:
            CrosscoderError: a tensor is missing, or does not fit.
        """
        crosscoder = trainer.crosscoder
        crosscoder.load_state_dict(self._part("crosscoder", crosscoder.state_dict()))
        for name, parameter in crosscoder.named_parameters():
            like = {moment: torch.tensor(0.0) if moment == "step" else parameter for moment in _MOMENTS}
            moments = self._part(f"optimizer.{name}", like)
            # The fused optimiser walks through memory: moments must lie in it as the parameter does.
            trainer.optimizer.state[parameter] = {
                "step": moments.pop("step").clone().to(parameter.device),
                **{moment: torch.empty_like(parameter.detach()).copy_(value) for moment, value in moments.items()},
            }
        device = crosscoder.W_dec.device
        counters = self._part("trainer", trainer.counters())
        trainer.resume(self.step, {name: counter.to(device) for name, counter in counters.items()})

    def _part(self, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a part of the trainer, which must be as those in their places are."""
        for name, wanted in like.items():
            found = self.tensors.get(f"{part}.{name}")
            if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
                raise CrosscoderError(
                    f"Cannot resume training: its saved state has no {part}.{name} that fits this crosscoder; remove "
                    "it to start anew."
                )
        return {name: self.tensors[f"{part}.{name}"] for name in like}

    def refuse_other(self, origin: Origin, **options: Any) -> None:
        """Make sure that the state was left by this configuration.

        Raises:
            CrosscoderError: it was not; the sentence lists what differs.
        """
        asked = _identity(origin, options)
        differ = [
            f"{name} was {self.identity.get(name)!r} and is now {asked.get(name)!r}"
            for name in sorted(asked.keys() | self.identity.keys())
            if asked.get(name) != self.identity.get(name)
        ]
        if differ:
            raise CrosscoderError(
                f"The training that was interrupted at step {self.step} had another configuration: "
                f"{'; '.join(differ)}. Ask for the same, or remove the saved state to start anew."
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all.

        Raises:
            RunError: it cannot be written; a state saved there before is left as it was.
        """
        buffer = {f"buffer.{name}": getattr(self.buffer, name) for name in ("held", "generator", "scales")}
        counts = {name: getattr(self.buffer, name) for name in ("tokens", "sequences", "digest", "exhausted")}
        facts = {"step": self.step, "identity": self.identity, "log": self.log, "buffer": counts}
        write_tensors(Path(path), self.tensors | buffer, {"format": FORMAT, "facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | Path) -> TrainingState:
        """Read what `save` wrote.

        Raises:
            CrosscoderError: the file is damaged or of another kind.
        """
        try:
            tensors, metadata = read_tensors(path)
            if metadata.get("format") != FORMAT:
                raise RunError(f"{path} is not the state of a training: its format is {metadata.get('format')!r}")
            facts = parse_json(metadata["facts"])
            parts = {name: tensors.pop(f"buffer.{name}") for name in ("held", "generator", "scales")}
            for name, kind in (("step", int), ("identity", dict), ("log", list), ("buffer", dict)):
                if not isinstance(facts[name], kind):
                    raise TypeError(f"{path} is damaged at {name!r}")
            return cls(facts["step"], facts["identity"], facts["log"], tensors, BufferState(**parts, **facts["buffer"]))
        except (RunError, KeyError, TypeError, ValueError) as error:
            raise CrosscoderError(f"Cannot resume training: {first_line(error)}") from error


@dataclass(frozen=True)
class Keeper:
    """Saves a training now and then, and finds what an interrupted one left.

    Attributes:
        path: the file; None: nothing is kept.
        every: steps between two savings.
        options: all that decides about the result beside the crosscoder's origin, as plain values.

    Raises:
        CrosscoderError: an interval below one step.
    """

    path: Path | None
    every: int
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise CrosscoderError(f"save_every must be at least 1 step, not {self.every}.")

    @property
    def kept(self) -> bool:
        """Whether there is something to go on from."""
        return self.path is not None and self.path.exists()

    def load(self, origin: Origin) -> TrainingState | None:
        """What an interrupted training left; None if nothing.

        Raises:
            CrosscoderError: it is damaged, or was left by another configuration.
        """
        if not self.kept:
            return None
        found = TrainingState.load(self.path)
        found.refuse_other(origin, **self.options)
        return found

    def due(self, step: int, steps: int) -> bool:
        """Whether to save after a step; not after the last."""
        return self.path is not None and (step + 1) % self.every == 0 and step + 1 < steps

    def save(self, trainer: Trainer, buffer: BufferState, step: int, log: list[dict[str, int | float]]) -> None:
        """Save what there is after `step` steps; of several processes the first does."""
        if trainer.processes.first:
            TrainingState.of(trainer, buffer, step, log, **self.options).save(self.path)


def _identity(origin: Origin, options: dict[str, Any]) -> dict[str, Any]:
    values = asdict(origin)
    flat = values.pop("training") | values | options | {"site": str(origin.site), "torch": torch.__version__}
    # What JSON makes of it, so that a state in memory and one from a file compare equal.
    return json.loads(json.dumps(flat))
