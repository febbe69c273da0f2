"""Are the top features sufficient, and are they necessary? Faithfulness and completeness of nested sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interventions.baselines import Baseline
from interventions.codes import Codes
from interventions.decomposition import Decomposition
from interventions.errors import InterventionError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.replacement import replace
from interventions.site import Site
from interventions.upward import Upward

SIZES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, eq=False)
class Circuit:
    """The metric of P prompts with the top n features alone, and without them, for G values of n.

    Attributes:
        sizes: the values of n.
        kept: metric when the top n features (and the error term, if it was kept) are in their clean state, and all
            other features at the baseline.
        ablated: metric when the top n features are at the baseline, and all others in their clean state.
        full: metric of the whole model.
        empty: metric when every feature is at the baseline.
    """

    sizes: tuple[int, ...]
    kept: Float[Tensor, "G P"]
    ablated: Float[Tensor, "G P"]
    full: Float[Tensor, " P"]
    empty: Float[Tensor, " P"]

    def faithfulness(self) -> Float[Tensor, " G"]:
        """``(m(top n) - m(none)) / (m(all) - m(none))`` with means over prompts: 1 where n features suffice."""
        return self._share(self.kept.mean(1))

    def completeness(self) -> Float[Tensor, " G"]:
        """Faithfulness of the complement: 0 where the model without the top n does no better than with no feature."""
        return self._share(self.ablated.mean(1))

    def _share(self, metric: Tensor) -> Tensor:
        return (metric - self.empty.mean()) / (self.full.mean() - self.empty.mean())


def circuit(
    model: Model,
    prompts: Prompts,
    site: Site | str,
    clean: Decomposition,
    ranked: Sequence[int],
    *,
    sizes: Sequence[int] = SIZES,
    baseline: str | Baseline = "zero",
    keep_error: bool = True,
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Circuit:
    """Keep the top n of ranked features, and ablate them, jointly and for nested n.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        ranked: features, the most important first.
        sizes: values of n; those above the number of ranked features are left out.
        baseline: what all other features are set to: zero, mean (Marks et al.), resample, or a `Baseline`.
        keep_error: leave the error term as it is in all states. Otherwise it moves to the baseline's, except in
            `ablated` and `full`.
        metric: what is scored.

    Returns:
        The metric of every prompt in each state, from which faithfulness and completeness follow.

    Raises:
        InterventionError: no ranked feature, a feature that is listed twice, a size below 1, or an unknown baseline.
        FeatureError: a feature that does not exist.

    Examples:
        >>> top = circuit(model, prompts, site, clean, ranked, baseline="mean")  # doctest: +SKIP
        >>> top.faithfulness()  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2.
    """
    # Check the ranking and the sizes.
    ranked = list(ranked)
    if not ranked or len(set(ranked)) != len(ranked):
        raise InterventionError("A circuit needs ranked features, each of them once.")
    if not sizes or min(sizes) < 1:
        raise InterventionError(f"The sizes of a circuit must be whole numbers of at least 1, not {list(sizes)}.")
    fitting_sizes = tuple(size for size in sizes if size <= len(ranked)) or (len(ranked),)
    nested_sets = [ranked[:size] for size in fitting_sizes]

    # Score the whole model, and the state in which every feature is at the baseline.
    upward = Upward(model, prompts, site, metric)
    baseline = Baseline.of(baseline, clean, prompts)
    change = baseline.change(clean, ranked[: max(fitting_sizes)])
    empty_x = baseline.x + (clean.error - baseline.error if keep_error else 0)
    full, empty = upward.score(clean.x), upward.score(empty_x)

    # Restore the nested sets in the empty state, and ablate them in the clean state.
    restored = _score_sets(upward, empty_x, -change, clean.directions, nested_sets, empty)
    ablated = _score_sets(upward, clean.x, change, clean.directions, nested_sets, full)
    return Circuit(fitting_sizes, restored, ablated, full, empty)


def _score_sets(
    upward: Upward,
    x: Float[Tensor, "T D"],
    change: Codes,
    directions: Float[Tensor, "F D"],
    nested_sets: Sequence[Sequence[int]],
    unchanged: Float[Tensor, " P"],
) -> Float[Tensor, "G P"]:
    """The metric when each set of features moves by `change`; prompts in which nothing changes keep `unchanged`."""
    scores = replace(upward, x, change, directions, nested_sets)
    metric = unchanged.repeat(len(nested_sets), 1)
    metric[scores.group, scores.prompt] = scores.metric
    return metric
