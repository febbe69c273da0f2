"""Hyper-parameters of TopK and BatchTopK training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstime.errors import CrosscoderError
from crosstime.training.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from crosstime.crosscoders.activation_functions import Activation


class DefaultStart(int):
    """A `k_start` that nobody named, which fits itself to every dictionary; one that is named is used or refused."""


K_START = DefaultStart(1_000)
"""Number of active features per token with which CTT starts BatchTopK."""


@dataclass(frozen=True)
class TopKConfig(TrainerConfig):
    """Hyper-parameters of TopK training, in addition to those of `TrainerConfig`.

    Attributes:
        k: final number of active features per token.
        k_start: initial number of active features per token; None uses k from the start.
        k_steps: number of steps in which the number falls linearly from `k_start` to `k`.
        auxk: weight of AuxK, the error of the dead features' reconstruction of the other features' error.
        dead_after: number of tokens without firing after which AuxK counts a feature as dead.

    Raises:
        CrosscoderError: a value is out of range, or more features are active than there are.

    Examples:
        >>> TopKConfig(n_features=1024, steps=500, k=16).k_start is None
        True

    Source: Gao et al. 2024 (arXiv 2406.04093) for TopK and AuxK.
    """

    k: int = 200
    k_start: int | None = None
    k_steps: int = 5_000
    auxk: float = 1 / 32
    dead_after: int = 10_000_000

    kind: ClassVar[str] = "topk"
    title: ClassVar[str] = "TopK"
    sparsity_key: ClassVar[str] = "k"
    trainer_class: ClassVar[str] = "crosstime.training.topk:TopKTrainer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("k", "k_steps", "dead_after")
        if self.k > self.n_features:
            raise CrosscoderError(f"k must be between 1 and n_features ({self.n_features}), not {self.k}.")
        if self.k_start is not None and not self.k <= self.k_start <= self.n_features:
            raise CrosscoderError(
                f"k_start must be between k ({self.k}) and n_features ({self.n_features}), not {self.k_start}."
            )
        if self.auxk < 0:
            raise CrosscoderError(f"auxk must not be negative; got {self.auxk}.")

    def k_at(self, step: int) -> int:
        """Number of active features per token at a step.

        Examples:
            >>> config = TopKConfig(k=20, k_start=100, k_steps=10)
            >>> [config.k_at(step) for step in (0, 5, 10, 99)]
            [100, 60, 20, 20]
        """
        if self.k_start is None or step >= self.k_steps:
            return self.k
        return round(self.k_start + (self.k - self.k_start) * step / self.k_steps)

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        from crosstime.crosscoders.activation_functions import TopK

        return TopK(self.n_features, k=self.k)


@dataclass(frozen=True)
class BatchTopKConfig(TopKConfig):
    """Hyper-parameters of BatchTopK training: those of `TopKConfig`, with k annealed as in CTT.

    Attributes:
        k_start: by default 1,000, but not more than `n_features`, nor less than `k`. A number that is given is not
            changed: it must be between `k` and `n_features`. None uses k from the start.
        threshold_memory: decay of the moving average that estimates the inference threshold, once k has reached its
            final value.

    Raises:
        CrosscoderError: as for `TopKConfig`; or `threshold_memory` is outside [0, 1).

    Examples:
        >>> BatchTopKConfig(n_features=4096, steps=500, k=16).k_start
        1000

    Source: Bussmann et al. 2024 (arXiv 2412.06410); CTT (arXiv 2509.05291), section 3.3.
    """

    k_start: int | None = K_START
    threshold_memory: float = 0.99

    kind: ClassVar[str] = "batchtopk"
    title: ClassVar[str] = "BatchTopK"
    trainer_class: ClassVar[str] = "crosstime.training.topk:BatchTopKTrainer"

    def __post_init__(self) -> None:
        # The default must fit every dictionary, also that of a copy with another size
        if isinstance(self.k_start, DefaultStart):
            object.__setattr__(self, "k_start", DefaultStart(max(min(K_START, self.n_features), self.k)))
        super().__post_init__()
        if not 0 <= self.threshold_memory < 1:
            raise CrosscoderError(f"threshold_memory must be at least 0 and below 1, not {self.threshold_memory}.")

    def activation(self) -> Activation:
        """See `TrainerConfig.activation`."""
        from crosstime.crosscoders.activation_functions import BatchTopK

        return BatchTopK(self.n_features, k=self.k)
