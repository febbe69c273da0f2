"""What a prompt's answer is scored by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.errors import InterventionError, ShapeError, not_one_of


@dataclass(frozen=True)
class Metric:
    """A number per prompt, from the logits at its last token.

    Attributes:
        name: what tables call it.
        from_answers: the metric as a function of the two answers' logits, ``f(right B, wrong B) -> B``;
            with it only two rows of the unembedding are computed.
        from_vocabulary: the metric as a function of all logits, ``f(logits B V, right B, wrong B) -> B``.
    """

    name: str
    from_answers: Callable[[Tensor, Tensor], Tensor] | None = None
    from_vocabulary: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def __call__(
        self, logits: Float[Tensor, "B V"], right: Int[Tensor, " B"], wrong: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The metric of each row of `logits`.

        Raises:
            ShapeError: the metric's function does not return one number a prompt.

        Examples:
            >>> LOGIT_DIFFERENCE(torch.tensor([[1.0, 4.0]]), torch.tensor([0]), torch.tensor([1]))
            tensor([3.])
        """
        if self.from_answers is not None:
            pick = lambda token: logits.gather(1, token.unsqueeze(1)).squeeze(1)  # noqa: E731
            return self.check(self.from_answers(pick(right), pick(wrong)), len(right))
        return self.check(self.from_vocabulary(logits, right, wrong), len(right))

    def check(self, value: object, n: int) -> Float[Tensor, " B"]:
        """Refuse a result that is not one number a prompt."""
        if not isinstance(value, Tensor) or value.shape != (n,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"Metric {self.name!r} must give one number for each of {n} prompts, shape ({n},); got {got}."
            )
        return value


def _probability_difference(logits: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    probabilities = logits.float().softmax(-1)
    index = torch.stack([right, wrong], 1)
    picked = probabilities.gather(1, index)
    return picked[:, 1] - picked[:, 0]


def _cross_entropy(logits: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits.float(), right, reduction="none")


LOGIT_DIFFERENCE = Metric("logit_difference", from_answers=lambda right, wrong: wrong - right)
"""m = logit(wrong) - logit(right): negative where the model prefers the right answer (CTT)."""

LOG_PROB_DIFFERENCE = Metric("log_prob_difference", from_answers=lambda right, wrong: wrong - right)
"""m = log p(wrong) - log p(right); the normaliser cancels, so it equals the logit difference exactly."""

PROBABILITY_DIFFERENCE = Metric("probability_difference", from_vocabulary=_probability_difference)
"""m = p(wrong) - p(right)."""

CROSS_ENTROPY = Metric("cross_entropy", from_vocabulary=_cross_entropy)
"""m = -log p(right), in nats."""

METRICS = {
    metric.name: metric for metric in (LOGIT_DIFFERENCE, LOG_PROB_DIFFERENCE, PROBABILITY_DIFFERENCE, CROSS_ENTROPY)
}


AnyMetric = str | Metric | Callable[[Tensor, Tensor, Tensor], Tensor]
"""A metric by name, as it is, or as the caller's function of (logits B V, right B, wrong B) that gives B."""


def metric_named(metric: AnyMetric) -> Metric:
    """A metric by name, as it is, or from the caller's function of (logits, right, wrong).

    Every metric must grow as the model gets worse at the right answer, so that a feature which helps
    has a positive effect when it is taken away.

    Raises:
        InterventionError: no metric of that name.

    Examples:
        >>> metric_named("cross_entropy") is CROSS_ENTROPY
        True
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        return Metric(getattr(metric, "__name__", "custom"), from_vocabulary=metric)
    if metric not in METRICS:
        raise InterventionError(not_one_of("metric", metric, METRICS))
    return METRICS[metric]


def answered_right(metric: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """1 where the right answer has the higher logit, m = logit(wrong) - logit(right) < 0; 1/2 for a tie.

    Examples:
        >>> import torch
        >>> answered_right(torch.tensor([-1.0, 0.0, 2.0])).tolist()
        [1.0, 0.5, 0.0]
    """
    return (metric < 0).double() + (metric == 0).double() / 2
