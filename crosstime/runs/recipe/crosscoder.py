"""The ``[crosscoder]`` table of a recipe: a kind, its hyper-parameters, and how batches are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from crosstime.activations.data_config import DataConfig
from crosstime.errors import CrosscoderError
from crosstime.training.checkpoint_options import Checkpointing
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.kinds import KINDS, kind_named
from crosstime.training.l1_config import L1Config
from crosstime.training.loggers import LOGGERS, Logging
from crosstime.training.topk_config import BatchTopKConfig, TopKConfig
from crosstime.training.trainer_config import PRECISIONS, TrainerConfig
from user_input.nearest import nearest


@dataclass(frozen=True)
class CrosscoderRecipe(TrainerConfig):
    """Keys of every kind; the hyper-parameters are those of the kind's configuration.

    Attributes:
        source: a crosscoder that exists, in place of a training: a file or folder in any format, the folder of a run,
            or a repository of the Hub. It is of ``compare.revisions`` and ``compare.site``; the hyper-parameters have
            no meaning then.
        seeds: seeds of several crosscoders that are trained together, on one pass over the activations. The first,
            which takes the place of `seed`, is the run's crosscoder; the others say what replicates, see
            docs/guides/seeds.md.
        batch_size, buffer_tokens, buffer_dtype, validation, max_activation_norm_multiple, scale_by: see `DataConfig`.
        save_every: steps after which the state of training is saved, to resume from; see `Checkpointing`.
        precision: dtype of the matrix products, float32 or bfloat16; default: bfloat16 on a GPU that supports it.
        loggers: where metrics are written, besides ``metrics.jsonl``: tensorboard, wandb.
    """

    source: str | None = None
    seeds: list[int] = field(default_factory=list)
    batch_size: int = DataConfig.batch_size
    buffer_tokens: int = DataConfig.buffer_tokens
    buffer_dtype: str = DataConfig.buffer_dtype
    save_every: int = Checkpointing.every
    validation: float = DataConfig.validation
    max_activation_norm_multiple: float | None = DataConfig.max_activation_norm_multiple
    scale_by: str = DataConfig.scale_by
    precision: str | None = None
    loggers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "":
            raise CrosscoderError("source must be a crosscoder's file, folder or repository, not ''.")
        self._check_seeds()
        self.data_config()  # which refuses what it cannot use
        if self.save_every < 1:
            raise CrosscoderError(f"save_every must be at least 1, not {self.save_every}.")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise CrosscoderError(f"there is no precision {self.precision!r}: {nearest(self.precision, PRECISIONS)}")
        for name in self.loggers:
            if name not in LOGGERS:
                raise CrosscoderError(f"loggers: there is no logger {name!r}: {nearest(name, LOGGERS)}")

    def config(self) -> TrainerConfig:
        """The hyper-parameters alone, for `crosstime.train`."""
        kind = KINDS[self.kind]
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    def configs(self) -> list[TrainerConfig]:
        """The hyper-parameters of every seed, for `crosstime.train_several`."""
        return [replace(self.config(), seed=seed) for seed in self.seeds or [self.seed]]

    @property
    def other_seeds(self) -> list[int]:
        """The seeds of the crosscoders beside that of the run."""
        return self.seeds[1:]

    def _check_seeds(self) -> None:
        for seed in self.seeds:
            if seed < 0:
                raise CrosscoderError(f"seeds must be at least 0, not {seed}.")
            if self.seeds.count(seed) > 1:
                raise CrosscoderError(f"seeds: {seed} is there twice.")
        if len(self.seeds) == 1:
            raise CrosscoderError(f"seeds names several crosscoders; for one, write seed = {self.seeds[0]}.")
        if self.seeds and self.source is not None:
            raise CrosscoderError(
                f"seeds {self.seeds} are those of a training, and source {self.source!r} is a crosscoder that exists."
            )
        if self.seeds:
            object.__setattr__(self, "seed", self.seeds[0])

    def data_config(
        self, *, sequence_length: int = DataConfig.sequence_length, seed: int = DataConfig.seed
    ) -> DataConfig:
        """How activations are batched; sequence length and seed stand in other tables of the recipe."""
        return DataConfig(
            batch_size=self.batch_size,
            sequence_length=sequence_length,
            buffer_tokens=self.buffer_tokens,
            buffer_dtype=self.buffer_dtype,
            validation=self.validation,
            seed=seed,
            max_activation_norm_multiple=self.max_activation_norm_multiple,
            scale_by=self.scale_by,
        )

    def checkpointing(self, path: Path) -> Checkpointing:
        """Where and how often the state of the training run is saved."""
        return Checkpointing(path, self.save_every)

    def logging(self, folder: Path) -> Logging:
        """Where the metrics are written."""
        return Logging(folder, self.loggers)


@dataclass(frozen=True)
class L1Recipe(CrosscoderRecipe, L1Config):
    """``kind = "l1"``: see `L1Config`."""


@dataclass(frozen=True)
class TopKRecipe(CrosscoderRecipe, TopKConfig):
    """``kind = "topk"``: see `TopKConfig`."""


@dataclass(frozen=True)
class BatchTopKRecipe(CrosscoderRecipe, BatchTopKConfig):
    """``kind = "batchtopk"``: see `BatchTopKConfig`."""


@dataclass(frozen=True)
class JumpReLURecipe(CrosscoderRecipe, JumpReLUConfig):
    """``kind = "jumprelu"``: see `JumpReLUConfig`."""


# The kind has other defaults than `TrainerConfig`, so that it comes before `CrosscoderRecipe`, which has those
@dataclass(frozen=True)
class PerCheckpointJumpReLURecipe(PerCheckpointJumpReLUConfig, CrosscoderRecipe):
    """``kind = "jumprelu_per_checkpoint"``: see `PerCheckpointJumpReLUConfig`."""


_RECIPES: dict[str, type[CrosscoderRecipe]] = {
    recipe.kind: recipe
    for recipe in (L1Recipe, TopKRecipe, BatchTopKRecipe, JumpReLURecipe, PerCheckpointJumpReLURecipe)
}


def recipe_of_kind(table: Mapping[str, Any]) -> tuple[type[CrosscoderRecipe], dict[str, Any]]:
    """The class of a ``[crosscoder]`` table, by its key ``kind``, and its other keys.

    Raises:
        CrosscoderError: there is no such kind.

    Examples:
        >>> recipe_of_kind({"kind": "topk", "k": 8})[1]
        {'k': 8}
    """
    keys = dict(table)
    kind = keys.pop("kind", L1Config.kind)
    if not isinstance(kind, str):
        raise CrosscoderError(f"kind must be a text, not {kind!r}: {nearest(str(kind), KINDS)}")
    return _RECIPES[kind_named(kind).kind], keys


def refuse_keys_of_other_kinds(recipe: type[CrosscoderRecipe], keys: Collection[str]) -> None:
    """Refuse a hyper-parameter that other kinds have, such as a penalty for a kind with one penalty only.

    Raises:
        CrosscoderError: there is one; the sentence names the kinds that have it.
    """
    own = {field.name for field in fields(recipe)}
    for key in keys:
        others = [kind for kind, other in _RECIPES.items() if key in {field.name for field in fields(other)}]
        if key not in own and others:
            kinds = "kinds" if others[1:] else "kind"
            raise CrosscoderError(f"{key} is a key of {kinds} {' and '.join(others)}, and kind {recipe.kind} has none.")
