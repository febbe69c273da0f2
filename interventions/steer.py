"""Steer the forward pass along the decoder directions of features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.decomposition import Decomposition
from interventions.errors import InterventionError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.site import Site
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Steered:
    """The metric of P prompts with a changed activation, and with the model's own.

    Attributes:
        metric: the metric with the changed activation.
        clean: the metric with the model's own activation.
    """

    metric: Float[Tensor, " P"]
    clean: Float[Tensor, " P"]

    @property
    def change(self) -> Float[Tensor, " P"]:
        """``metric - clean``."""
        return self.metric - self.clean

    @classmethod
    def score(cls, upward: Upward, x: Float[Tensor, "T D"], change: Float[Tensor, "T D"]) -> Steered:
        """Score the prompts with the activation ``x + change``, and with x."""
        return cls(upward.score(x + change), upward.score(x))


def steer(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    clean: Decomposition,
    amounts: Mapping[int, float],
    *,
    positions: str | Sequence[tuple[int, int]] = "all",
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Add multiples of features' decoder directions to the activation: ``x + sum_i amount_i direction_i``.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        amounts: feature -> amount that is added to its activation.
        positions: ``all``, ``last``, or a token span (first, end) for each prompt.
        metric: what is scored.

    Returns:
        The metric of every prompt, with and without the change.

    Raises:
        InterventionError: no feature.
        FeatureError: a feature that does not exist.
        ShapeError: spans that do not fit the prompts.

    Examples:
        >>> steer(model, prompts, site, clean, {17: 5.0}, positions="last").change.mean()  # doctest: +SKIP
    """
    features = existing_features(amounts, clean)
    amount = torch.tensor([amounts[feature] for feature in features], dtype=clean.x.dtype)
    direction = amount @ clean.directions[features]
    mask = steered_tokens(prompts, positions, clean)
    return Steered.score(Upward(model, prompts, site, metric), clean.x, mask * direction)


def steered_tokens(
    prompts: Prompts, positions: str | Sequence[tuple[int, int]], clean: Decomposition
) -> Float[Tensor, "T 1"]:
    """1 for the tokens at the given positions, except those that the decomposition leaves as they are, and else 0."""
    mask = prompts.at(positions)
    if clean.fixed is not None:
        mask = mask & ~clean.fixed
    return mask.to(clean.x).unsqueeze(1)


def existing_features(features: Iterable[int], clean: Decomposition) -> list[int]:
    """The features as a list, once it is certain that there is at least one and that the dictionary has them all.

    Raises:
        InterventionError: there is none.
        FeatureError: one does not exist.
    """
    feature_list = list(features)
    if not feature_list:
        raise InterventionError("There is no feature to change: the list is empty.")
    for feature in feature_list:
        clean.codes.check(feature)
    return feature_list
