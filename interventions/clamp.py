"""Clamp features at fixed activations during the forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from interventions.codes import Codes
from interventions.decomposition import Decomposition
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.site import Site
from interventions.steer import Steered, existing_features, steered_tokens
from interventions.upward import Upward


def clamp(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    clean: Decomposition,
    values: Mapping[int, float],
    *,
    positions: str | Sequence[tuple[int, int]] = "all",
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Set features to fixed activations: ``x + sum_i (value_i - f_i) direction_i``.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        values: feature -> activation that it is set to.
        positions: ``all``, ``last``, or a token span (first, end) for each prompt.
        metric: what is scored.

    Returns:
        The metric of every prompt, with and without the change.

    Raises:
        InterventionError: no feature.
        FeatureError: a feature that does not exist.
        ShapeError: spans that do not fit the prompts.

    Examples:
        >>> clamp(model, prompts, site, clean, {17: 0.0, 3: 2.5}).metric  # doctest: +SKIP

    Source: Templeton et al. 2024, "Scaling Monosemanticity", on feature steering.
    """
    features = existing_features(values, clean)

    # The change of the codes: the fixed values in place of the model's own.
    activation = torch.zeros(clean.codes.n_features, dtype=clean.x.dtype)
    activation[features] = torch.tensor([values[feature] for feature in features], dtype=clean.x.dtype)
    change = Codes.constant(activation, clean.codes.n_tokens) + (-clean.codes.select(features))

    mask = steered_tokens(prompts, positions, clean)
    return Steered.score(Upward(model, prompts, site, metric), clean.x, mask * change.decode(clean.directions))
