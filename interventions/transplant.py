"""Transplant features from one model's activations into another model's forward pass."""

from __future__ import annotations

from collections.abc import Sequence

from interventions.decomposition import Decomposition
from interventions.errors import ShapeError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.site import Site
from interventions.steer import Steered, existing_features
from interventions.upward import Upward


def transplant(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    target: Decomposition,
    source: Decomposition,
    features: Sequence[int],
    *,
    scale: float = 1.0,
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Replace features' contributions to model B's activation by those that they have in model A.

    ``x_B + sum_i (scale f_i(A) direction_i(A) - f_i(B) direction_i(B))``. If B's answer then changes as A's would, B
    can read the feature at this checkpoint, whether or not it computes the feature itself.

    Args:
        model: model B, whose upper blocks run.
        prompts, site: as for `indirect_effects`.
        target: B's decomposition of the prompts.
        source: A's decomposition of the same prompts, by the same dictionary.
        features: which features are transplanted.
        scale: length of B's activations relative to A's; s_A / s_B for the scales of a crosscoder.
        metric: what is scored.

    Returns:
        The metric of every prompt, with and without the change.

    Raises:
        InterventionError: no feature.
        FeatureError: a feature that does not exist.
        ShapeError: the decompositions are of other tokens or of other dictionaries.

    Examples:
        >>> transplant(early, prompts, site, clean_early, clean_late, [17]).change  # doctest: +SKIP
    """
    features = existing_features(features, target)
    if source.x.shape != target.x.shape or tuple(source.decoder.shape) != tuple(target.decoder.shape):
        raise ShapeError(
            f"Features of {tuple(source.decoder.shape)} on {len(source.x)} tokens cannot be carried into a model "
            f"with {tuple(target.decoder.shape)} on {len(target.x)} tokens."
        )
    source_part = scale * source.codes.select(features).decode(source.directions)
    target_part = target.codes.select(features).decode(target.directions)
    return Steered.score(Upward(model, prompts, site, metric), target.x, source_part - target_part)
