"""Names of the options of an `Estimator`, so that they can be checked without PyTorch."""

from __future__ import annotations

METHODS = ("ig", "atp", "exact")
"""Methods of estimating an indirect effect."""
BASELINES = ("zero", "mean", "resample", "patch")
"""Names of baselines; any other is given as a `Baseline`."""
METRIC_NAMES = ("logit_difference", "log_prob_difference", "probability_difference", "cross_entropy")
"""Names of the metrics in `METRICS`; any other is given as a `Metric` or a function."""
RULES = ("gauss-legendre", "midpoint", "left")
"""Rules of quadrature."""
AGGREGATIONS = ("sum", "ctt", "ctt-released")
"""Ways from effects at single positions to one number for a feature."""
