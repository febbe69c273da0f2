"""Do the top features suffice, and are they needed? Faithfulness and completeness of nested sets."""

from __future__ import annotations

from collections.abc import Sequence
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

SIZES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, eq=False)
class Circuit:
    """The metric with only the top n features, and without them, for several n.

    Attributes:
        sizes: the n.
        kept: metric of each prompt when only the top n features (and the error term, if it was kept) are as in
            the clean state, all others at the baseline.
        ablated: metric of each prompt when the top n are at the baseline, all others as in the clean state.
        full: metric of the whole model.
        empty: metric with no feature left.
    """

    sizes: tuple[int, ...]
    kept: Float[Tensor, "G P"]
    ablated: Float[Tensor, "G P"]
    full: Float[Tensor, " P"]
    empty: Float[Tensor, " P"]

    def faithfulness(self) -> Float[Tensor, " G"]:
        """``(m(top n) - m(none)) / (m(all) - m(none))``, means over prompts: 1 where n features do it all."""
        return self._share(self.kept.mean(1))

    def completeness(self) -> Float[Tensor, " G"]:
        """Faithfulness of the complement: 0 where nothing is left to do without the top n."""
        return self._share(self.ablated.mean(1))

    def _share(self, metric: Tensor) -> Tensor:
        return (metric - self.empty.mean()) / (self.full.mean() - self.empty.mean())


def circuit(
    model: Model,
    prompts: Prompts,
    site: Site,
    clean: Decomposition,
    ranked: Sequence[int],
    *,
    sizes: Sequence[int] = SIZES,
    baseline: str | Baseline = "zero",
    keep_error: bool = True,
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Circuit:
    """Keep, and take away, the top n of ranked features jointly, for nested n.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        ranked: features, the most important first.
        sizes: n; those above the number of ranked features are left out.
        baseline: what all other features are set to: zero, mean (Marks et al.), resample, or a `Baseline`.
        keep_error: leave the error term as it is in all states; otherwise it moves to the baseline's, except in
            `ablated` and `full`.
        metric: what is scored.

    Raises:
        InterventionError: no ranked feature, a feature that does not exist or is listed twice, or a size below 1.

    Examples:
        >>> found = circuit(model, prompts, site, clean, ranked, baseline="mean")  # doctest: +SKIP
        >>> found.faithfulness()  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2.
    """
    ranked = list(ranked)
    if not ranked or len(set(ranked)) != len(ranked):
        raise InterventionError("A circuit needs ranked features, each of them once.")
    if not sizes or min(sizes) < 1:
        raise InterventionError(f"The sizes of a circuit are whole numbers from 1 on, not {list(sizes)}.")
    fitting = tuple(size for size in sizes if size <= len(ranked)) or (len(ranked),)
    upward = Upward(model, prompts, site, metric)
    to = Baseline.of(baseline, clean, prompts)
    change = to.change(clean, ranked[: max(fitting)])
    start = to.x + (clean.error - to.error if keep_error else 0)
    nested = [ranked[:size] for size in fitting]
    full, empty = upward.score(clean.x), upward.score(start)
    states = []
    for x, moved, unchanged in ((start, -change, empty), (clean.x, change, full)):
        replaced = replace(upward, x, moved, clean.directions, nested)
        metric_of = unchanged.repeat(len(nested), 1)
        metric_of[replaced.group, replaced.prompt] = replaced.metric
        states.append(metric_of)
    return Circuit(fitting, states[0], states[1], full, empty)
