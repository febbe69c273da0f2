"""Options of an indirect effect, declared once for functions, recipes and the command line."""

from __future__ import annotations

from dataclasses import dataclass

from interventions.baselines import BASELINES, Baseline
from interventions.errors import InterventionError
from interventions.metrics import METRICS, AnyMetric
from interventions.quadrature import RULES
from user_input.nearest import nearest

METHODS = ("ig", "atp", "exact")


@dataclass(frozen=True)
class Estimator:
    """How the indirect effect of a feature on a metric is estimated.

    Attributes:
        method: ``ig`` (integrated gradients), ``atp`` (attribution patching: one gradient at the clean state) or
            ``exact`` (one forward pass for each feature and prompt). None is ``ig``, or ``exact`` on a server without
            gradients.
        baseline: the state that features and error term are moved to: zero, mean, resample, patch, or a `Baseline`.
            `indirect_effects` takes patch as ``Baseline.patch(decomposition)`` only.
        metric: the metric that features cause: a name in `METRICS`, a `Metric`, or a function of
            ``(logits B V, right B, wrong B)`` that returns B numbers. By default logit(wrong) - logit(right) at the
            last token.
        quadrature: rule for the integral of ``ig``: gauss-legendre, midpoint, or left (CTT, with 10 steps).
        steps: number of nodes of that rule. None starts with 6 nodes and adds more, up to 96, for the prompts with the
            largest errors, until the completeness error is within `tolerance`.
        tolerance: largest completeness error, relative to the metric's change; see `Effects.completeness_error`.

    Raises:
        InterventionError: an unknown name (the message has the nearest one), `steps` below 1, or a tolerance that is
            not positive.

    Examples:
        >>> Estimator(baseline="mean").quadrature
        'gauss-legendre'
        >>> ctt = Estimator("ig", quadrature="left", steps=10)
    """

    method: str | None = None
    baseline: str | Baseline = "zero"
    metric: AnyMetric = "logit_difference"
    quadrature: str = "gauss-legendre"
    steps: int | None = None
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for option, value, names in (
            ("method", self.method, METHODS),
            ("baseline", self.baseline, BASELINES),
            ("metric", self.metric, METRICS),
            ("quadrature rule", self.quadrature, RULES),
        ):
            if isinstance(value, str) and value not in names:
                raise InterventionError(f"There is no {option} {value!r}: {nearest(value, names)}")
        if self.steps is not None and self.steps < 1:
            raise InterventionError(f"A quadrature needs at least one step, not {self.steps}.")
        if self.tolerance <= 0:
            raise InterventionError(f"The tolerance of the completeness error must be positive, not {self.tolerance}.")
