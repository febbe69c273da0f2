"""Take features away and see what the model still gets right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interventions.baselines import Baseline
from interventions.codes import Decomposition
from interventions.errors import InterventionError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.replacement import replace
from interventions.site import Site
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Ablation:
    """The metric of every prompt without some features.

    Attributes:
        groups: the features taken away together, one tuple a group.
        metric: the metric of each prompt without each group.
        clean: the metric of each prompt with all features.
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
    site: Site,
    clean: Decomposition,
    groups: Sequence[int | Sequence[int]],
    *,
    baseline: str | Baseline = "zero",
    metric: AnyMetric = LOGIT_DIFFERENCE,
    progress: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Set features to zero, or to a baseline, at all positions, alone or as sets, and score every prompt.

    A feature is moved in the model's own activation, ``x + (f'_i - f_i) direction_i``, so the error term and
    all other features stay. Only prompts in which that changes something are run, from the site upward.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        groups: single features, or lists of features that are ablated jointly.
        baseline: what the features are set to: zero, mean, resample, or a `Baseline`.
        metric: what is scored.
        progress: called with (pairs done, pairs in all).

    Raises:
        InterventionError: no features, or one that does not exist.

    Examples:
        >>> ablation = ablate(model, prompts, Site(1), decomposition, [3, 17, [3, 17]])  # doctest: +SKIP
        >>> accuracy = (ablation.metric < 0).float().mean(1)  # doctest: +SKIP
    """
    sets = tuple((group,) if isinstance(group, int) else tuple(group) for group in groups)
    if not sets or not all(sets):
        raise InterventionError("An ablation needs at least one feature in every group, and at least one group.")
    upward = Upward(model, prompts, site, metric)
    scored = upward.score(clean.x)
    change = Baseline.of(baseline, clean, prompts).change(clean, (feature for group in sets for feature in group))
    replaced = replace(upward, clean.x, change, clean.directions, sets, progress=progress)
    out = scored.repeat(len(sets), 1)
    out[replaced.group, replaced.prompt] = replaced.metric
    return Ablation(sets, out, scored)
