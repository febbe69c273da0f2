"""How an indirect effect is estimated: one value that functions, recipes and the command line share."""

from __future__ import annotations

from dataclasses import dataclass

from interventions.baselines import BASELINES, Baseline
from interventions.errors import InterventionError, not_one_of
from interventions.metrics import METRICS, AnyMetric
from interventions.quadrature import RULES

METHODS = ("ig", "atp", "exact")


@dataclass(frozen=True)
class Estimator:
    """How the indirect effect of a feature on a metric is estimated.

    Attributes:
        method: ``ig`` (integrated gradients), ``atp`` (one gradient at the clean state) or ``exact`` (one forward pass
            for each feature); None is ``ig``, or ``exact`` on a server without gradients.
        baseline: what features are moved to: zero, mean, resample, patch, or a `Baseline`.
        metric: a name in `METRICS`, or a `Metric`, or a function of logits.
        quadrature: rule by which the integral of ``ig`` is summed: gauss-legendre, left, ...
        steps: nodes of that rule; None adds nodes until `tolerance` holds.
        tolerance: largest relative error of completeness at which no more nodes are added.

    Raises:
        InterventionError: a name that is not allowed, with the nearest; `steps` below 1; a tolerance that is not
            positive.

    Examples:
        >>> Estimator(quadrature="left", steps=10).method is None
        True
    """

    method: str | None = None
    baseline: str | Baseline = "zero"
    metric: AnyMetric = "logit_difference"
    quadrature: str = "gauss-legendre"
    steps: int | None = None
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for name, given, allowed in (
            ("method", self.method, METHODS),
            ("baseline", self.baseline, BASELINES),
            ("metric", self.metric, METRICS),
            ("quadrature rule", self.quadrature, RULES),
        ):
            if isinstance(given, str) and given not in allowed:
                raise InterventionError(not_one_of(name, given, allowed))
        if self.steps is not None and self.steps < 1:
            raise InterventionError(f"A quadrature needs at least one step, not {self.steps}.")
        if self.tolerance <= 0:
            raise InterventionError(f"The tolerance of the completeness error must be positive, not {self.tolerance}.")
