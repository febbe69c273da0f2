"""How much each feature, and the error term, causes a metric: indirect effects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.activations import MAX_TOKENS
from interventions.baselines import Baseline
from interventions.budget import for_each_batch
from interventions.codes import Decomposition, check_feature
from interventions.errors import InterventionError, NoGradientsError, not_one_of
from interventions.estimator import METHODS
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Batch, Prompts
from interventions.quadrature import nodes_and_weights
from interventions.replacement import replace
from interventions.site import Site
from interventions.upward import Upward

AGGREGATIONS = ("sum", "ctt")
CTT_THRESHOLD = 0.1
FEWEST_STEPS, MOST_STEPS = 6, 96
"""Nodes that every prompt gets, and the most that one gets, when their number is left open."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Effects:
    """Indirect effects of one checkpoint's features on a metric, kept sparse.

    Attributes:
        prompt, position, feature, value: one entry for each place where a feature's activation differs
            between clean state and baseline; `position` is None for `exact`, which replaces a feature at all
            positions at once. A feature's effect on a prompt is the sum of its entries there.
        error: effect of the error term on each prompt.
        clean, baseline: the metric of each prompt in the two states.
        lengths: tokens of each prompt.
        n_features: F.
        method: ig, atp or exact.
    """

    prompt: Int[Tensor, " N"]
    position: Int[Tensor, " N"] | None
    feature: Int[Tensor, " N"]
    value: Float[Tensor, " N"]
    error: Float[Tensor, " P"]
    clean: Float[Tensor, " P"]
    baseline: Float[Tensor, " P"]
    lengths: Int[Tensor, " P"]
    n_features: int
    method: str

    def per_feature(self, aggregation: str = "sum") -> Float[Tensor, " F"]:
        """Indirect effect of every feature, over all prompts.

        ``sum``: summed over positions, mean over prompts. ``ctt``: effects of a single position with
        |IE| <= 0.1 are set to zero, then the mean over all tokens (CTT, section 4).

        Raises:
            InterventionError: an unknown aggregation, or `ctt` for effects that have no positions.
        """
        total = torch.zeros(self.n_features, dtype=torch.float64)
        if aggregation == "sum":
            return total.index_add(0, self.feature, self.value.double()) / len(self.clean)
        if aggregation == "ctt":
            if self.position is None:
                raise InterventionError("Aggregation 'ctt' needs effects per position; use method 'ig' or 'atp'.")
            feature, value = self._merged_positions()
            kept = value.abs() > CTT_THRESHOLD
            return total.index_add(0, feature[kept], value[kept]) / int(self.lengths.sum())
        raise InterventionError(not_one_of("aggregation", aggregation, AGGREGATIONS))

    def per_prompt(self, features: Sequence[int]) -> Float[Tensor, "P K"]:
        """Effect of each of some features on each prompt, summed over positions.

        Raises:
            FeatureError: a feature that does not exist.
        """
        for feature in features:
            check_feature(feature, self.n_features)
        chosen, place = torch.unique(torch.tensor(list(features), dtype=torch.long), return_inverse=True)
        column = torch.full((self.n_features,), -1)
        column[chosen] = torch.arange(len(chosen))
        wanted = column[self.feature]
        kept = wanted >= 0
        out = torch.zeros(len(self.clean), len(chosen), dtype=torch.float64)
        out.index_put_((self.prompt[kept], wanted[kept]), self.value[kept].double(), accumulate=True)
        return out[:, place]

    def completeness_error(self) -> float:
        """How far effects of all features and the error term miss the metric's change, relative to it.

        ``sum_p |sum_i IE_i + IE_error - (m(baseline) - m(clean))| / sum_p |m(baseline) - m(clean)|``.
        Zero for an exact integral; for `atp` and `exact` it shows how far effects are from additive.
        """
        total = self.error.double().index_add(0, self.prompt, self.value.double())
        change = (self.baseline - self.clean).double()
        return float((total - change).abs().sum() / change.abs().sum().clamp(min=1e-30))

    def _merged_positions(self) -> tuple[Tensor, Tensor]:
        """One entry a (prompt, position, feature), also where clean and patch prompt both have one."""
        key = (self.prompt * int(self.lengths.max()) + self.position) * self.n_features + self.feature
        key, inverse = torch.unique(key, return_inverse=True)
        value = torch.zeros(len(key), dtype=torch.float64).index_add(0, inverse, self.value.double())
        return key % self.n_features, value


def indirect_effects(
    model: Model,
    prompts: Prompts,
    site: Site,
    clean: Decomposition,
    baseline: Baseline | Decomposition | None = None,
    *,
    method: str | None = None,
    metric: AnyMetric = LOGIT_DIFFERENCE,
    quadrature: str = "gauss-legendre",
    steps: int | None = None,
    tolerance: float = 0.02,
    features: Sequence[int] | None = None,
    max_tokens: int = MAX_TOKENS,
    progress: Progress | None = None,
) -> Effects:
    """Indirect effect of every feature and of the error term on a metric, at one checkpoint.

    The state moves from clean (f, e) to baseline (f', e') along ``(1-a)(f, e) + a(f', e')``. With m the metric::

        exact : m(x with f_i set to f'_i, all else clean) - m(clean)
        ig    : (f'_i - f_i) * integral_0^1 dm/df_i da       at every position
        atp   : (f'_i - f_i) * dm/df_i at a = 0              at every position

    and the same for the error term. Decoding is affine, so the path is taken on x, one backward pass gives
    dm/dx, and ``dm/df_i = <dm/dx, direction_i>``: nothing of size B x S x F carries gradients, and features
    that are zero in both states have no effect and cost nothing.

    Args:
        model: the checkpoint.
        prompts: P prompts with right and wrong answers.
        site: where the dictionary is spliced in.
        clean: decomposition of the prompts' activations at `site`.
        baseline: what features and error term move to: a `Baseline`, the decomposition of the patch prompts, or
            None for zero (f' = 0, e' = 0: CTT).
        method: ig, atp, or exact, which costs a pass for each feature that fires on each prompt. None is ig, but
            exact on a server that has no gradients; a warning says so.
        metric: what is caused; by default logit(wrong) - logit(right) at the last token.
        quadrature: rule for `ig`: gauss-legendre, midpoint, or left (CTT: 10 steps).
        steps: number of nodes of the rule. None takes 6, and while the completeness error is above `tolerance`,
            half as many again or three times as many, up to 96, for the prompts that miss by most.
        tolerance: largest completeness error, see `Effects.completeness_error`.
        features: for `exact`, only these features; default all that fire.
        max_tokens: budget of one batch, padding included.
        progress: called with (done, in all).

    Raises:
        InterventionError: an unknown method, quadrature or metric, or a decomposition of other tokens.
        NoGradientsError: ig or atp by name, on a server that has no gradients.

    Examples:
        >>> result = indirect_effects(model, prompts, Site(1), decomposition)  # doctest: +SKIP
        >>> result.per_feature().abs().topk(10).indices  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 2; CTT (arXiv 2509.05291), section 3.
    """
    upward = Upward(model, prompts, site, metric, max_tokens)
    if len(clean.x) != prompts.n_tokens:
        raise InterventionError(
            f"The decomposition has {len(clean.x)} tokens, but the prompts have {prompts.n_tokens}."
        )
    method = _possible(method, model)
    to = Baseline.of(clean, baseline)
    change, error_change = to.change(clean), to.error - clean.error
    clean_metric, end_metric = upward.score(clean.x), upward.score(to.x)

    if method == "exact":
        firing = torch.unique(change.feature).tolist()
        wanted = firing if features is None else list(dict.fromkeys(features))
        if not wanted:
            raise InterventionError("There are no features to replace: the list is empty, or none fires.")
        groups = [[feature] for feature in wanted]
        replaced = replace(upward, clean.x, change, clean.directions, groups, progress=progress)
        error = upward.score(clean.x + error_change) - clean_metric
        value = replaced.metric - clean_metric[replaced.prompt]
        return Effects(
            replaced.prompt, None, torch.tensor(wanted)[replaced.group], value,
            error, clean_metric, end_metric, prompts.lengths, clean.codes.n_features, method,
        )  # fmt: skip

    path = _Path(upward, clean.x, to.x)
    if method == "atp":
        gradient = path.gradient("left", 1, progress=progress)
    elif steps is not None:
        gradient = path.gradient(quadrature, steps, progress=progress)
    else:
        gradient = path.gradient_within(tolerance, quadrature, end_metric - clean_metric, progress)
    value = change.inner(gradient.to(change.value), clean.directions.to(change.value))
    error_by_token = (gradient * error_change.to(gradient)).sum(1)
    error = torch.zeros(len(prompts)).index_add(0, prompts.sequence_of_token, error_by_token)
    return Effects(
        prompts.sequence_of_token[change.token], prompts.position_of_token[change.token], change.feature, value,
        error, clean_metric, end_metric, prompts.lengths, clean.codes.n_features, method,
    )  # fmt: skip


def _possible(method: str | None, model: Model) -> str:
    """The method asked for, or the one that the model's server allows."""
    if method is not None and method not in METHODS:
        raise InterventionError(not_one_of("method", method, METHODS))
    if method == "exact" or model.gradients:
        return method or "ig"
    if method is not None:
        raise NoGradientsError(
            f"Method {method!r} needs gradients, and {model.remote.host} has none: it runs requests in a sandbox. Use "
            "method='exact', or leave the method out."
        )
    warnings.warn(
        f"{model.remote.host} has no gradients for {model.name}: effects are exact ones, a pass for each feature that "
        "fires on each prompt.",
        RuntimeWarning,
        stacklevel=3,
    )
    return "exact"


@dataclass(frozen=True, eq=False)
class _Path:
    """The straight path of the activations from one state to another, and the gradients along it."""

    upward: Upward
    start: Float[Tensor, "T D"]
    end: Float[Tensor, "T D"]

    def gradient_within(
        self, tolerance: float, rule: str, change: Float[Tensor, " P"], progress: Progress | None
    ) -> Float[Tensor, "T D"]:
        """Mean gradient with as many nodes for each prompt as completeness asks for.

        The effects of a prompt add up to ``<mean gradient, end - start>``, which must be the metric's
        change: so the error is known without a second estimate. While its sum over prompts is too large, the
        worst of them, without which it is half of what is allowed, are run again with more nodes.
        """
        prompts = self.upward.prompts
        out = self.gradient(rule, FEWEST_STEPS, progress=progress)
        steps = torch.full((len(prompts),), FEWEST_STEPS)
        allowed = tolerance * change.abs().sum()
        while True:
            by_token = (out * (self.end - self.start).to(out)).sum(1)
            missed = (torch.zeros_like(change).index_add(0, prompts.sequence_of_token, by_token) - change).abs()
            if missed.sum() <= allowed:
                return out
            ascending = missed.argsort()
            again = torch.zeros_like(missed, dtype=torch.bool)
            again[ascending] = missed[ascending].cumsum(0) > allowed / 2
            again &= steps < MOST_STEPS
            if not again.any():
                return out
            # Half as many nodes again divide the error by about ten: prompts that are far off are spared useless ones.
            far = missed > 10 * allowed / len(prompts)
            steps = torch.where(again, torch.where(far, 3 * steps, 3 * steps // 2), steps).clamp(max=MOST_STEPS)
            for number in torch.unique(steps[again]).tolist():
                rows = (again & (steps == number)).nonzero().squeeze(1)
                refined = self.gradient(rule, number, rows=rows, progress=progress)
                tokens = torch.isin(prompts.sequence_of_token, rows)
                out[tokens] = refined[tokens]

    def gradient(
        self, rule: str, steps: int, *, rows: Int[Tensor, " R"] | None = None, progress: Progress | None = None
    ) -> Float[Tensor, "T D"]:
        """``sum_k w_k dm/dx`` at ``x = start + a_k (end - start)``, prompts and nodes batched together."""
        upward, prompts, model = self.upward, self.upward.prompts, self.upward.model
        nodes, weights = nodes_and_weights(rule, steps)
        out = torch.zeros(prompts.n_tokens, model.d_model)
        done, in_all = 0, len(prompts) if rows is None else len(rows)

        def work(batch: Batch, budget: int) -> None:
            nonlocal done
            a, b = upward.pad(batch, self.start), upward.pad(batch, self.end)
            at_once = max(1, budget // batch.mask.numel())
            total = torch.zeros_like(a, dtype=torch.float32)
            for first in range(0, steps, at_once):
                some = slice(first, first + at_once)
                total += upward.gradient(batch, a, b, nodes[some], weights[some])
            batch.unpad(total, out)
            done += len(batch.rows)
            if progress is not None:
                progress(done, in_all)

        for_each_batch(prompts, upward.max_tokens, work, rows)
        return out
