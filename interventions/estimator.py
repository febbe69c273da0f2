"""Options of an indirect effect, declared once for functions, recipes and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from interventions.aggregation import CTT_BATCH_SIZE, CTT_COLUMNS, CTT_THRESHOLD, Aggregation
from interventions.errors import InterventionError
from interventions.option_names import BASELINES, METHODS, METRIC_NAMES, RULES
from user_input.nearest import nearest

if TYPE_CHECKING:
    from interventions.baselines import Baseline
    from interventions.metrics import AnyMetric

NAMED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "ctt-as-written": {
            "method": "ig",
            "baseline": "zero",
            "metric": "logit_difference",
            "quadrature": "left",
            "steps": 10,
            "aggregation": {"name": "ctt"},
        },
        "ctt-as-released": {
            "method": "atp",
            "baseline": "zero",
            "metric": "logit_difference",
            "aggregation": {"name": "ctt-released"},
        },
    }
)
"""Options that the named estimators fix, see `Estimator.named`."""


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
        quadrature: rule for the integral of ``ig``: gauss-legendre, midpoint, or left.
        steps: number of nodes of that rule. None starts with 6 nodes and adds more, up to 96, for the prompts with the
            largest errors, until the completeness error is within `tolerance`.
        tolerance: largest completeness error, relative to the metric's change; see `Effects.completeness_error`.
        aggregation: how the effects at single positions become one number for a feature.

    Raises:
        InterventionError: an unknown name (the message has the nearest one), `steps` below 1, a tolerance that is not
            positive, or an aggregation per position for the method ``exact``, which has none.

    Examples:
        >>> Estimator(baseline="mean").quadrature
        'gauss-legendre'
        >>> Estimator.named("ctt-as-written").steps
        10
    """

    method: str | None = None
    baseline: str | Baseline = "zero"
    metric: str | AnyMetric = "logit_difference"
    quadrature: str = "gauss-legendre"
    steps: int | None = None
    tolerance: float = 0.02
    aggregation: Aggregation = field(default_factory=Aggregation)

    def __post_init__(self) -> None:
        for option, value, names in (
            ("method", self.method, METHODS),
            ("baseline", self.baseline, BASELINES),
            ("metric", self.metric, METRIC_NAMES),
            ("quadrature rule", self.quadrature, RULES),
        ):
            if isinstance(value, str) and value not in names:
                raise InterventionError(f"There is no {option} {value!r}: {nearest(value, names)}")
        if self.steps is not None and self.steps < 1:
            raise InterventionError(f"steps must be at least 1, the nodes of a quadrature, not {self.steps}.")
        if self.tolerance <= 0:
            raise InterventionError(f"tolerance must be positive, a completeness error, not {self.tolerance}.")
        if self.method == "exact" and self.aggregation.thresholded:
            raise InterventionError(
                f"Aggregation {self.aggregation.name!r} needs effects per position; use method 'ig' or 'atp'."
            )

    @property
    def name(self) -> str | None:
        """The name of `Estimator.named` whose options are these, whatever the options of the aggregation; or None."""
        for name, options in NAMED.items():
            own = {option: getattr(self, option) for option in options} | {"aggregation": self.aggregation.name}
            if name != "default" and own == {**options, "aggregation": options["aggregation"]["name"]}:
                return name
        return None

    @classmethod
    def named(
        cls,
        name: str,
        *,
        threshold: float = CTT_THRESHOLD,
        batch_size: int = CTT_BATCH_SIZE,
        columns: int = CTT_COLUMNS,
    ) -> Estimator:
        """An estimator of this name.

        - ``default``: integrated gradients with as many nodes as completeness needs; summed over positions, mean over
          prompts.
        - ``ctt-as-written``: the estimator that *Crosscoding Through Time* describes: integrated gradients by a left
          Riemann sum with 10 steps; effects of one position up to .1 set to zero; mean over real tokens.
        - ``ctt-as-released``: what its released code computes in the environment that it pins (nnsight 0.4.6). There
          each of the ten steps' gradients is taken at the clean state, so that its effects are those of attribution
          patching; they are aggregated with the padding and the factor of `Aggregation` ``ctt-released``. Its RelIE of
          0/0 is .5: ``Attribution.relie(undefined=0.5)``, or ``effects.undefined`` of a recipe.

        Args:
            name: one of `NAMED`.
            threshold, batch_size, columns: options of its `Aggregation`.

        Raises:
            InterventionError: an unknown name, or an option that its aggregation does not allow.

        Examples:
            >>> Estimator.named("ctt-as-released", batch_size=8, columns=6).method
            'atp'

        Source: Bayazit, Mueller & Bosselut (arXiv 2509.05291), section 3.2, and the code published with it.
        """
        if name not in NAMED:
            raise InterventionError(f"There is no estimator {name!r}: {nearest(name, NAMED)}")
        options = dict(NAMED[name])
        aggregation = options.pop("aggregation", {"name": "sum"})["name"]
        return cls(**options, aggregation=Aggregation(aggregation, threshold, batch_size, columns))
