"""Refuse estimators that need gradients on a server without them, before anything is computed."""

from __future__ import annotations

from collections.abc import Collection

from crosstime.effects.stability_options import ESTIMATOR
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Estimator
from interventions.effects import available_method


def refuse_missing_gradients(
    suite: Suite, compute: Compute, estimator: Estimator, comparisons: Collection[str] = ()
) -> None:
    """Refuse what a server without gradients cannot compute; where there is no server, nothing is asked or opened.

    A server whose `Remote.sandboxed` is ``auto`` is asked with a small request for a gradient, once in a process.

    Args:
        suite: the checkpoints; the first one is opened, if anything needs gradients.
        compute: where the checkpoints run.
        estimator: of the effects.
        comparisons: over which the stability of effects is measured (`Stability.comparisons`).

    Raises:
        NoGradientsError: the estimator names a method or an aggregation that needs gradients.
        CrosscoderError: estimators are compared, of which most need gradients.

    Examples:
        >>> refuse_missing_gradients(suite, Compute(), Estimator("ig"))  # doctest: +SKIP
    """
    # Without a method, effects are exact where there are no gradients
    named = estimator.method not in (None, "exact") or estimator.aggregation.thresholded
    compared = ESTIMATOR in comparisons
    if compute.remote is None or not compute.hosted or not (named or compared):
        return

    missing = (
        f"{compute.remote.host} has no gradients, since it runs requests in a sandbox, so that {ESTIMATOR} cannot be "
        "compared there: leave it out."
    )
    # What the caller says about the server is not asked
    if compared and compute.remote.sandboxed is True:
        raise CrosscoderError(missing)
    with compute.open(suite, suite.revisions[0]) as model:
        if named:
            available_method(estimator, model)
        if compared and not model.gradients:
            raise CrosscoderError(missing)
