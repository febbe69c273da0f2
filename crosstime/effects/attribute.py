"""Which features cause a task at which checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import (
    BASELINES,
    DecomposedTask,
    baseline_named,
    decompose_task,
    fitting,
    refuse_foreign,
)
from crosstime.effects.relie import ABSENT, SPECIFIC, classify, relative, select_top
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.shown import Shown
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import (
    Bootstrap,
    Effects,
    Estimator,
    Metric,
    Model,
    bootstrap_interval,
    indirect_effects,
    interval,
    resampled_means,
)
from tasks import Task, TokenizedTask
from user_input.nearest import nearest

ERROR_TERM = -1
"""Stands for the error term among feature numbers in tables."""


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Shown):
    """Indirect effects of a crosscoder's features on one task, at each checkpoint.

    Attributes:
        task: name of the task.
        revisions: the C checkpoints.
        effects: one result a checkpoint.
        decoder_norms: C F, on the scale of training.
        decomposed: the decomposed prompts, for ablations and contexts without another forward pass.
    """

    task: str
    revisions: tuple[str, ...]
    effects: tuple[Effects, ...]
    decoder_norms: Float[Tensor, "C F"]
    decomposed: DecomposedTask

    def ie(self, aggregation: str = "sum") -> Float[Tensor, "C F"]:
        """Indirect effect of every feature at every checkpoint; see `Effects.per_feature`."""
        return torch.stack([result.per_feature(aggregation) for result in self.effects])

    def relie(self, *, undefined: float = float("nan")) -> Float[Tensor, "F C"]:
        """RelIE, one checkpoint against all: ``|IE_c| / sum |IE|``."""
        return relative(self.ie().T, undefined=undefined)

    def reldec(self) -> Float[Tensor, "F C"]:
        """RelDec: the same of decoder norms."""
        return relative(self.decoder_norms.T)

    def top(self, k: int = 10, *, by: str = "magnitude") -> list[int]:
        """Union over checkpoints of each one's k features with the largest effect; see `select_top`."""
        return select_top(self.ie(), k, by=by)

    def table(
        self,
        features: Sequence[int] | None = None,
        *,
        resamples: int = 10_000,
        seed: int = 0,
        level: float = 0.95,
        absent: float = ABSENT,
        specific: float = SPECIFIC,
    ) -> pd.DataFrame:
        """One row for each feature and checkpoint, with bootstrap intervals over prompts.

        Columns: task, feature, revision, ie, low, high, relie, relie_low, relie_high, reldec, decoder_norm,
        class_ie, class_dec.

        Args:
            features: which; default `top`.
            resamples, seed, level: of the bootstrap. Checkpoints share their resamples, since they share
                their prompts.
            absent, specific: bounds of the classes, see `crosstime.classify`.

        Raises:
            CrosscoderError: no features, or one that does not exist.
        """
        chosen = list(dict.fromkeys(self.top() if features is None else features))
        n_features = self.decoder_norms.shape[1]
        for feature in chosen:
            if not 0 <= feature < n_features:
                raise CrosscoderError(f"There is no feature {feature}: the crosscoder has 0 to {n_features - 1}.")
        if not chosen:
            raise CrosscoderError(f"No feature has an effect on {self.task}, so there is nothing to put in a table.")
        per_prompt = torch.stack([result.per_prompt(chosen) for result in self.effects], -1)
        bootstrap = Bootstrap(resamples, seed, level)
        means = resampled_means(per_prompt, bootstrap)
        ie = per_prompt.mean(0)
        low, high = interval(means, bootstrap)
        shares = relative(ie)
        share_low, share_high = interval(relative(means), bootstrap)
        reldec = self.reldec()[chosen]
        class_ie, class_dec = (
            classify(values, self.revisions, absent=absent, specific=specific) for values in (shares, reldec)
        )
        return pd.DataFrame(
            {
                "task": self.task,
                "feature": feature,
                "revision": revision,
                "ie": ie[row, c].item(),
                "low": low[row, c].item(),
                "high": high[row, c].item(),
                "relie": shares[row, c].item(),
                "relie_low": share_low[row, c].item(),
                "relie_high": share_high[row, c].item(),
                "reldec": reldec[row, c].item(),
                "decoder_norm": self.decoder_norms[c, feature].item(),
                "class_ie": class_ie[row],
                "class_dec": class_dec[row],
            }
            for row, feature in enumerate(chosen)
            for c, revision in enumerate(self.revisions)
        )

    def error_table(self, *, resamples: int = 10_000, seed: int = 0) -> pd.DataFrame:
        """Effect of the error term at each checkpoint: what the crosscoder's features leave unexplained."""
        rows = []
        for revision, result in zip(self.revisions, self.effects, strict=True):
            low, high = bootstrap_interval(result.error, Bootstrap(resamples, seed))
            rows.append(
                {
                    "task": self.task,
                    "feature": ERROR_TERM,
                    "revision": revision,
                    "ie": result.error.mean().item(),
                    "low": low.item(),
                    "high": high.item(),
                }
            )
        return pd.DataFrame(rows)

    def completeness(self) -> dict[str, float]:
        """Relative completeness error at each checkpoint; see `Effects.completeness_error`."""
        return {
            revision: result.completeness_error() for revision, result in zip(self.revisions, self.effects, strict=True)
        }

    def headline(self) -> str:
        """On what, and how complete."""
        return (
            f"effects of {self.decoder_norms.shape[1]:,} features on {len(self.decomposed.prompts):,} prompts of "
            f"{self.task} at {', '.join(self.revisions)}; completeness error at most "
            f"{max(self.completeness().values()):.2%}"
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """The features with the largest effects, and the error term."""
        top = self.top()
        strongest = {"the strongest features": self.table(top)} if top else {}
        return strongest | {"the error term": self.error_table()}


def attribute(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    *,
    method: str | None = None,
    baseline: str = "zero",
    metric: str | Metric = "logit_difference",
    quadrature: str = "gauss-legendre",
    steps: int | None = None,
    tolerance: float = 0.02,
    seed: int = 0,
    compute: Compute = Compute(),
) -> Attribution:
    """Indirect effect of every feature and of the error term on a task, at every checkpoint.

    Args:
        suite: a suite that has the crosscoder's checkpoints.
        crosscoder: trained on them.
        task: minimal pairs; or what `decompose_task` gave, to save reading the activations again.
        method, metric, quadrature, steps, tolerance: see `interventions.indirect_effects`.
        baseline: ``zero`` (all features and the error term at zero, CTT), ``mean`` (over the task's prompts),
            ``resample`` (another prompt's state) or ``patch`` (the patch prompt's; only for tasks that have one).
        seed: of ``resample``.
        compute: how the checkpoints are run.

    Raises:
        CrosscoderError: the crosscoder does not fit the suite, or an unknown baseline.
        ShapeError: the task has no patch prompts.

    Examples:
        >>> attribution = attribute(suite, crosscoder, task)  # doctest: +SKIP
        >>> attribution.table(attribution.top(10))  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.2.
    """
    chosen = fitting(suite, crosscoder)
    if baseline not in BASELINES:
        raise CrosscoderError(f"There is no baseline {baseline!r}: {nearest(baseline, BASELINES)}")
    decomposed = task if isinstance(task, DecomposedTask) else decompose_task(suite, crosscoder, task, compute=compute)
    refuse_foreign(decomposed, crosscoder)
    with track(f"Effects on {decomposed.task.name}", None) as bar:

        def effects(c: int, model: Model) -> Effects:
            bar.note(chosen.revisions[c])
            # One at a time: a mean is as many numbers as there are tokens and features that fire.
            to = baseline_named(baseline, decomposed, c, seed)
            return indirect_effects(
                model,
                decomposed.prompts,
                crosscoder.origin.site,
                decomposed.clean[c],
                Estimator(method, to, metric, quadrature, steps, tolerance),
                progress=bar.part(c, len(chosen)),
            )

        results = compute.each(chosen, effects)
    return Attribution(decomposed.task.name, chosen.revisions, tuple(results), crosscoder.decoder_norms(), decomposed)
