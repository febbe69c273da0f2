"""Indirect effects: how much each feature of a dictionary, and its error term, causes a metric.

Given P prompts, a metric m, and the decomposition ``x = f @ directions + bias + e`` of their activations at one site of
one checkpoint, `indirect_effects` works as follows:

1. **Baseline.** Choose the state (f', e') to which features and error term move: zero (CTT), the mean over tokens,
   another prompt's state, or the patch prompt's (`interventions/baselines.py`). It decodes to the activation x'.
2. **Ends of the path.** Score the prompts with x and with x' at the site. Only the blocks above the site run
   (`interventions/upward.py`).
3. **Gradient.** Decoding is affine, so the path ``(1-a)(f, e) + a(f', e')`` is the straight line from x to x'. `ig`
   averages dm/dx over the nodes of a quadrature rule on this line, `atp` takes dm/dx at x alone. One backward pass to x
   serves all features (`interventions/path.py`).
4. **Number of nodes** (`ig`). The effects of a prompt must add up to m(x') - m(x), which is known from step 2, and so
   the error of the integral is known too (*completeness*). Every prompt starts with 6 nodes. While the errors of all
   prompts together exceed `tolerance`, the prompts with the largest errors get half as many nodes again, or three times
   as many, up to 96.
5. **Effects.** The effect of feature i at a token is ``(f'_i - f_i) <dm/dx, direction_i>``, that of the error term
   ``<dm/dx, e' - e>``. Features that are zero in both states have no effect and no entry, so that nothing of size T x F
   is built and nothing of size B x S x F carries gradients.
6. **Exact effects** take the place of steps 3 to 5: one forward pass for each feature and each prompt in which it
   fires, with this feature alone at its baseline (`interventions/replacement.py`).

Sources: Sundararajan, Taly & Yan 2017 (arXiv 1703.01365) for integrated gradients and completeness; Syed, Rager & Conmy
2023 (arXiv 2310.10348) for attribution patching, `atp`; Marks et al. 2024 (arXiv 2403.19647), section 2, for effects of
features and error terms; CTT (arXiv 2509.05291), section 3, for the zero baseline. How effects at single tokens become
one number for a feature is in `interventions/aggregation.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.aggregation import Aggregation
from interventions.baselines import Baseline
from interventions.codes import check_feature
from interventions.decomposition import Decomposition
from interventions.errors import InterventionError, NoGradientsError
from interventions.estimator import Estimator
from interventions.model import Model
from interventions.path import MOST_STEPS, Path, Progress
from interventions.prompts import Prompts
from interventions.replacement import replace
from interventions.site import Site
from interventions.upward import Upward

_ROUNDING = 1e-3
"""Completeness error, as a share of the metric at both ends, below which it is one of rounding."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Indirect effects of one checkpoint's features on a metric, as N sparse entries.

    Attributes:
        prompt, position, feature, value: one entry for each token and feature whose activation differs between clean
            state and baseline. `position` is None for `exact`, which replaces a feature at all positions at once. The
            effect of a feature on a prompt is the sum of its entries there.
        error: effect of the error term on each prompt.
        clean, baseline: the metric of each prompt in the two states.
        lengths: number of tokens of each prompt.
        n_features: F.
        method: ig, atp or exact.
        aggregation: how `per_feature` and `per_prompt` make one number of the effects at single positions.
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
    aggregation: Aggregation = field(default_factory=Aggregation)

    def per_feature(self, aggregation: str | Aggregation | None = None) -> Float[Tensor, " F"]:
        """Indirect effect of every feature, over all prompts.

        Args:
            aggregation: an `Aggregation` or its name; None is that of the effects. ``sum`` adds the effects of all
                positions and takes the mean over prompts. ``ctt`` sets the effects of a single position with |IE| <=
                0.1 to zero and takes the mean over all tokens (CTT, section 4). ``ctt-released`` does as CTT's code.

        Raises:
            InterventionError: an unknown aggregation, or one with a threshold for effects without positions.
        """
        chosen = self.aggregation if aggregation is None else Aggregation.of(aggregation)
        total = torch.zeros(self.n_features, dtype=torch.float64)
        if not chosen.thresholded:
            return total.index_add(0, self.feature, self.value.double()) / len(self.clean)
        prompt, feature, value = self._large_entries(chosen)
        weights = chosen.prompt_weights(self.lengths)
        return total.index_add(0, feature, value * weights[prompt]) / len(self.clean)

    def per_prompt(self, features: Sequence[int], aggregation: str | Aggregation | None = None) -> Float[Tensor, "P K"]:
        """Effect of K features on each prompt, whose mean over prompts is `per_feature`.

        Args:
            features: the features.
            aggregation: as for `per_feature`; by ``sum``, effects are summed over positions.

        Raises:
            FeatureError: a feature that does not exist.
            InterventionError: as for `per_feature`.
        """
        for feature in features:
            check_feature(feature, self.n_features)

        # Find the column of every entry; -1 for features that are not asked for.
        unique_features, columns = torch.unique(torch.tensor(list(features), dtype=torch.long), return_inverse=True)
        column_of_feature = torch.full((self.n_features,), -1)
        column_of_feature[unique_features] = torch.arange(len(unique_features))
        chosen = self.aggregation if aggregation is None else Aggregation.of(aggregation)
        if chosen.thresholded:
            prompt, entry_feature, value = self._large_entries(chosen)
            value = value * chosen.prompt_weights(self.lengths)[prompt]
        else:
            prompt, entry_feature, value = self.prompt, self.feature, self.value.double()
        column = column_of_feature[entry_feature]
        mask = column >= 0

        # Sum the entries over positions.
        sums = torch.zeros(len(self.clean), len(unique_features), dtype=torch.float64)
        sums.index_put_((prompt[mask], column[mask]), value[mask], accumulate=True)
        return sums[:, columns]

    def select(self, rows: Sequence[int]) -> Effects:
        """The effects on some prompts, numbered from 0 in the given order, as if these were all prompts.

        Args:
            rows: indices of prompts, each once.

        Raises:
            InterventionError: no prompt is selected, one that does not exist, or one of them twice.

        Examples:
            >>> effects.select(range(len(effects.clean) // 2)).per_feature()  # doctest: +SKIP
        """
        n_prompts = len(self.clean)
        if not len(rows) or len(set(rows)) != len(rows) or not all(0 <= row < n_prompts for row in rows):
            raise InterventionError(f"There are effects on prompts 0 to {n_prompts - 1}; select some, each once.")
        chosen = torch.tensor(list(rows))
        number = torch.full((n_prompts,), -1)
        number[chosen] = torch.arange(len(rows))
        entries = number[self.prompt] >= 0
        return replace_fields(
            self,
            prompt=number[self.prompt[entries]],
            position=None if self.position is None else self.position[entries],
            feature=self.feature[entries],
            value=self.value[entries],
            error=self.error[chosen],
            clean=self.clean[chosen],
            baseline=self.baseline[chosen],
            lengths=self.lengths[chosen],
        )

    def completeness_error(self) -> float:
        """How far the effects of all features and the error term are from adding up to the metric's change.

        ``sum_p |sum_i IE_i + IE_error - (m(baseline) - m(clean))| / sum_p |m(baseline) - m(clean)|``.
        Zero for an exact integral; for `atp` and `exact` it shows how far effects are from additive.
        """
        total = self.error.double().index_add(0, self.prompt, self.value.double())
        change = (self.baseline - self.clean).double()
        return float((total - change).abs().sum() / change.abs().sum().clamp(min=1e-30))

    def _large_entries(self, aggregation: Aggregation) -> tuple[Tensor, Tensor, Tensor]:
        """Prompt, feature and value of the effects at single positions that are above the threshold.

        A feature that is active in the clean and in the patch prompt has two entries at that position, which are added.

        Raises:
            InterventionError: the effects have no positions.
        """
        if self.position is None:
            raise InterventionError(
                f"Aggregation {aggregation.name!r} needs effects per position; use method 'ig' or 'atp'."
            )
        longest = int(self.lengths.max())
        key = (self.prompt * longest + self.position) * self.n_features + self.feature
        key, inverse = torch.unique(key, return_inverse=True)
        value = torch.zeros(len(key), dtype=torch.float64).index_add(0, inverse, self.value.double())
        large = value.abs() > aggregation.threshold
        return key[large] // (longest * self.n_features), key[large] % self.n_features, value[large]


def indirect_effects(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    clean: Decomposition,
    estimator: Estimator = Estimator(),
    *,
    features: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Effects:
    """Estimate the indirect effect of every feature and of the error term on a metric, at one checkpoint.

    The state moves from clean (f, e) to baseline (f', e') along ``(1-a)(f, e) + a(f', e')``. With m the metric::

        exact : m(x with f_i set to f'_i, all else clean) - m(clean)
        ig    : (f'_i - f_i) * integral_0^1 dm/df_i da       at every position
        atp   : (f'_i - f_i) * dm/df_i at a = 0              at every position

    and the same for the error term. The head of this module describes the algorithm.

    Args:
        model: the checkpoint.
        prompts: P prompts with right and wrong answers.
        site: the site whose activations the dictionary decomposes, or its text, such as ``"resid.1"``.
        clean: decomposition of the prompts' activations at `site`.
        estimator: method, baseline, metric and quadrature, see `Estimator`. `exact` costs one forward pass for each
            feature and each prompt in which it fires. The method None is `ig`; on a server without gradients it is
            `exact`, with a warning.
        features: for `exact`, only these features; by default all that fire.
        progress: called with (done, in all).

    Returns:
        The effects of features and error term, and the clean and the baseline metric of every prompt.

    Raises:
        InterventionError: a decomposition or baseline of other tokens, or no feature to replace.
        NoGradientsError: `ig` or `atp` by name, on a server without gradients.

    Examples:
        >>> effects = indirect_effects(model, prompts, Site(1), decomposition)  # doctest: +SKIP
        >>> effects.per_feature().abs().topk(10).indices  # doctest: +SKIP
        >>> ctt = Estimator.named("ctt-as-written")  # doctest: +SKIP
        >>> indirect_effects(model, prompts, Site(1), decomposition, ctt).per_feature()  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 2; CTT (arXiv 2509.05291), section 3.
    """
    # Check the inputs.
    upward = Upward(model, prompts, site, estimator.metric)
    if len(clean.x) != prompts.n_tokens:
        raise InterventionError(
            f"The decomposition has {len(clean.x)} tokens, but the prompts have {prompts.n_tokens}."
        )
    method = available_method(estimator, model)

    # Score the prompts at both ends of the path.
    baseline = Baseline.of(estimator.baseline, clean, prompts)
    clean_metric, baseline_metric = upward.score(clean.x), upward.score(baseline.x)

    # Estimate the effects.
    if method == "exact":
        entries = _exact_effects(upward, clean, baseline, clean_metric, features, progress)
    else:
        path = Path(upward, clean.x, baseline.x)

        if method == "atp":
            gradient = path.mean_gradient("left", 1, progress=progress)
        elif estimator.steps is not None:
            gradient = path.mean_gradient(estimator.quadrature, estimator.steps, progress=progress)
        else:
            change = baseline_metric - clean_metric
            gradient = path.adaptive_mean_gradient(estimator.quadrature, estimator.tolerance, change, progress)
            missed = path.completeness_errors(gradient, change).sum()
            _warn_of_missed_tolerance(
                missed, change.abs().sum(), (clean_metric.abs() + baseline_metric.abs()).sum(), upward, estimator
            )

        entries = _gradient_effects(prompts, clean, baseline, gradient)

    return Effects(
        prompt=entries.prompt,
        position=entries.position,
        feature=entries.feature,
        value=entries.value,
        error=entries.error,
        clean=clean_metric,
        baseline=baseline_metric,
        lengths=prompts.lengths,
        n_features=clean.codes.n_features,
        method=method,
        aggregation=estimator.aggregation,
    )


def _warn_of_missed_tolerance(
    error: Float[Tensor, ""], change: Float[Tensor, ""], size: Float[Tensor, ""], upward: Upward, estimator: Estimator
) -> None:
    """Say where the largest number of nodes does not bring the effects near enough to the metric's change.

    Where the metric hardly changes compared with its size, the error is that of rounding, and means nothing.
    """
    if error > estimator.tolerance * change and error > _ROUNDING * size:
        warnings.warn(
            f"integrated gradients of {upward.model.name} at {upward.site} miss their tolerance: with {MOST_STEPS} "
            f"nodes, the effects differ from the metric's change by {float(error / change):.2g} of it, and "
            f"{estimator.tolerance:g} was asked for; the metric may jump on the path, as where experts are chosen: the "
            "method 'exact' takes no gradients",
            RuntimeWarning,
            stacklevel=3,
        )


@dataclass(frozen=True, eq=False)
class _Entries:
    """What an estimator finds: the fields of `Effects` that depend on the method."""

    prompt: Int[Tensor, " N"]
    position: Int[Tensor, " N"] | None
    feature: Int[Tensor, " N"]
    value: Float[Tensor, " N"]
    error: Float[Tensor, " P"]


def _gradient_effects(
    prompts: Prompts, clean: Decomposition, baseline: Baseline, gradient: Float[Tensor, "T D"]
) -> _Entries:
    """Project the gradient at the site onto features and error term, token by token."""
    change, error_change = baseline.change(clean), baseline.error - clean.error
    value = change.inner(gradient.to(change.value), clean.directions.to(change.value))
    error_by_token = (gradient * error_change.to(gradient)).sum(1)
    error = torch.zeros(len(prompts)).index_add(0, prompts.sequence_of_token, error_by_token)
    prompt, position = prompts.sequence_of_token[change.token], prompts.position_of_token[change.token]
    return _Entries(prompt, position, change.feature, value, error)


def _exact_effects(
    upward: Upward,
    clean: Decomposition,
    baseline: Baseline,
    clean_metric: Float[Tensor, " P"],
    features: Sequence[int] | None,
    progress: Progress | None,
) -> _Entries:
    """Move one feature at a time to its baseline at all positions, and then the error term alone."""
    change, error_change = baseline.change(clean), baseline.error - clean.error
    features = torch.unique(change.feature).tolist() if features is None else list(dict.fromkeys(features))
    if not features:
        raise InterventionError("There are no features to replace: the list is empty, or none fires.")

    groups = [[feature] for feature in features]
    scores = replace(upward, clean.x, change, clean.directions, groups, progress=progress)
    value = scores.metric - clean_metric[scores.prompt]
    error = upward.score(clean.x + error_change) - clean_metric
    return _Entries(scores.prompt, None, torch.tensor(features)[scores.group], value, error)


def available_method(estimator: Estimator, model: Model) -> str:
    """The method asked for; without one, `ig`, or `exact` where the model's server has no gradients.

    Raises:
        NoGradientsError: a method or an aggregation that needs gradients, on a server without them.
    """
    method = estimator.method
    if method == "exact" or model.remote is None or model.gradients:
        return method or "ig"
    if method is not None:
        raise NoGradientsError(
            f"Method {method!r} needs gradients, and {model.remote.host} has none: it runs requests in a sandbox. Use "
            "method='exact', or leave the method out."
        )
    if estimator.aggregation.thresholded:
        raise NoGradientsError(
            f"Aggregation {estimator.aggregation.name!r} needs effects per position, and so gradients, which "
            f"{model.remote.host} does not have: use the aggregation 'sum'."
        )
    warnings.warn(
        f"{model.remote.host} has no gradients for {model.name}: effects are exact ones, a pass for each feature that "
        "fires on each prompt.",
        RuntimeWarning,
        stacklevel=3,
    )
    return "exact"
