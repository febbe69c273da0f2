"""Ablate features, one at a time or jointly, and score the prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interventions.baselines import Baseline
from interventions.decomposition import Decomposition
from interventions.errors import InterventionError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.replacement import replace
from interventions.site import Site
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Ablation:
    """The metric of P prompts when each of G groups of features is ablated.

    Attributes:
        groups: the features that are ablated together, one tuple for each group.
        metric: the metric of each prompt when each group is ablated.
        clean: the metric of each prompt without an ablation.
    """

    groups: tuple[tuple[int, ...], ...]
    metric: Float[Tensor, "G P"]
    clean: Float[Tensor, " P"]

    @property
    def change(self) -> Float[Tensor, "G P"]:
        """``m(ablated) - m(clean)``: the exact indirect effect."""
        return self.metric - self.clean


def ablate(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    clean: Decomposition,
    groups: Sequence[int | Sequence[int]],
    *,
    baseline: str | Baseline = "zero",
    metric: AnyMetric = LOGIT_DIFFERENCE,
    progress: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Set features to a baseline at all positions, one at a time or jointly, and score every prompt.

    A feature is moved within the model's own activation, ``x + (f'_i - f_i) direction_i``, so that the error term and
    all other features stay as they are. Only prompts in which this changes the activation are run, from the site
    upward; see `interventions/replacement.py`.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        groups: single features, or lists of features that are ablated jointly.
        baseline: the state f' that the features are set to: zero, mean, resample, or a `Baseline`.
        metric: what is scored.
        progress: called with (pairs of prompt and group done, pairs in all).

    Returns:
        The metric of every prompt, in the intact model and without each group.

    Raises:
        InterventionError: no group, a group without features, or an unknown baseline.
        FeatureError: a feature that does not exist.

    Examples:
        >>> ablation = ablate(model, prompts, Site(1), decomposition, [3, 17, [3, 17]])  # doctest: +SKIP
        >>> accuracy = (ablation.metric < 0).float().mean(1)  # doctest: +SKIP
    """
    feature_sets = tuple((group,) if isinstance(group, int) else tuple(group) for group in groups)
    if not feature_sets or not all(feature_sets):
        raise InterventionError("An ablation needs at least one feature in every group, and at least one group.")
    upward = Upward(model, prompts, site, metric)
    clean_metric = upward.score(clean.x)

    # Move each group to the baseline, in the prompts in which it fires.
    features = (feature for group in feature_sets for feature in group)
    change = Baseline.of(baseline, clean, prompts).change(clean, features)
    scores = replace(upward, clean.x, change, clean.directions, feature_sets, progress=progress)

    # All other pairs of prompt and group keep the clean metric.
    ablated_metric = clean_metric.repeat(len(feature_sets), 1)
    ablated_metric[scores.group, scores.prompt] = scores.metric
    return Ablation(feature_sets, ablated_metric, clean_metric)
