"""What effects need of a dictionary of features, of which the crosscoder is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.origin import Origin
from interventions import Decomposition


@runtime_checkable
class Dictionary(Protocol):
    """Decomposes the activations of C checkpoints at one site into F features, with an error term that makes it exact.

    `attribute`, `ablate` and `faithfulness` take any dictionary. `CrossCoder` is one; those of
    `crosstime.crosscoders.baselines` are what it is compared with. The features of a checkpoint have the same numbers
    as those of the others, whether or not they are the same features.
    """

    @property
    def origin(self) -> Origin:
        """The C checkpoints, the site and the width D."""
        ...

    @property
    def n_checkpoints(self) -> int:
        """C."""
        ...

    @property
    def n_features(self) -> int:
        """F."""
        ...

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """Norm of each feature's direction at each checkpoint."""
        ...

    def decompose(self, x: Float[Tensor, "C T D"], fixed: Bool[Tensor, " T"] | None = None) -> Sequence[Decomposition]:
        """The activations of T tokens at every checkpoint as features and error term; see `CrossCoder.decompose`."""
        ...
