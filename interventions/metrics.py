"""Metrics: one number for each prompt, from the logits at its last token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.errors import InterventionError, ShapeError
from user_input.nearest import nearest


@dataclass(frozen=True)
class Metric:
    """A function of the logits at a prompt's last token and of its two answers.

    Attributes:
        name: its name in tables.
        from_answers: the metric as a function of the two answers' logits, ``f(right B, wrong B) -> B``. With it, only
            two rows of the unembedding are computed.
        from_vocabulary: the metric as a function of all logits, ``f(logits B V, right B, wrong B) -> B``. It is used
            only where `from_answers` is None.

    Raises:
        InterventionError: neither function is given.
    """

    name: str
    from_answers: Callable[[Tensor, Tensor], Tensor] | None = None
    from_vocabulary: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.from_answers is None and self.from_vocabulary is None:
            raise InterventionError(f"Metric {self.name!r} needs a function: from_answers or from_vocabulary.")

    def __call__(
        self, logits: Float[Tensor, "B V"], right: Int[Tensor, " B"], wrong: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The metric of each row of `logits`.

        Raises:
            ShapeError: the metric's function does not return one number for each prompt.

        Examples:
            >>> LOGIT_DIFFERENCE(torch.tensor([[1.0, 4.0]]), torch.tensor([0]), torch.tensor([1]))
            tensor([3.])
        """
        if self.from_answers is not None:
            right_logit, wrong_logit = (logits.gather(1, token.unsqueeze(1)).squeeze(1) for token in (right, wrong))
            return self.check(self.from_answers(right_logit, wrong_logit), len(right))
        assert self.from_vocabulary is not None  # see __post_init__
        return self.check(self.from_vocabulary(logits, right, wrong), len(right))

    def check(self, value: object, n: int) -> Float[Tensor, " B"]:
        """Refuse a result that is not one number for each of n prompts.

        Raises:
            ShapeError: the result is no tensor, or has another shape.
        """
        if not isinstance(value, Tensor) or value.shape != (n,):
            received = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"Metric {self.name!r} must give one number for each of {n} prompts, shape ({n},); got {received}."
            )
        return value


def _probability_difference(logits: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    probabilities = logits.float().softmax(-1)
    of_answers = probabilities.gather(1, torch.stack([right, wrong], 1))
    return of_answers[:, 1] - of_answers[:, 0]


def _cross_entropy(logits: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits.float(), right, reduction="none")


LOGIT_DIFFERENCE = Metric("logit_difference", from_answers=lambda right, wrong: wrong - right)
"""m = logit(wrong) - logit(right): negative where the model prefers the right answer (CTT)."""

LOG_PROB_DIFFERENCE = Metric("log_prob_difference", from_answers=lambda right, wrong: wrong - right)
"""m = log p(wrong) - log p(right), in nats; the normaliser cancels, so that it equals the logit difference."""

PROBABILITY_DIFFERENCE = Metric("probability_difference", from_vocabulary=_probability_difference)
"""m = p(wrong) - p(right)."""

CROSS_ENTROPY = Metric("cross_entropy", from_vocabulary=_cross_entropy)
"""m = -log p(right), in nats."""

METRICS = {
    metric.name: metric for metric in (LOGIT_DIFFERENCE, LOG_PROB_DIFFERENCE, PROBABILITY_DIFFERENCE, CROSS_ENTROPY)
}
"""Every metric by its name."""

AnyMetric = str | Metric | Callable[[Tensor, Tensor, Tensor], Tensor]
"""The name of a metric, a `Metric`, or a function of ``(logits B V, right B, wrong B)`` that returns B numbers."""


def metric_named(metric: AnyMetric) -> Metric:
    """Return the `Metric` of a name, or of a function of ``(logits, right, wrong)``; a `Metric` stays as it is.

    A metric must increase as the model gets worse at the right answer, so that a feature that helps the model has a
    positive effect when it is ablated.

    Args:
        metric: the name of a metric, a function, or a `Metric`.

    Returns:
        The metric.

    Raises:
        InterventionError: there is no metric of that name.

    Examples:
        >>> metric_named("cross_entropy") is CROSS_ENTROPY
        True
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        return Metric(getattr(metric, "__name__", "custom"), from_vocabulary=metric)
    if metric not in METRICS:
        raise InterventionError(f"There is no metric {metric!r}: {nearest(metric, METRICS)}")
    return METRICS[metric]


def answered_right(metric: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """Accuracy of each prompt from its logit difference m: 1 where m < 0, 1/2 for a tie, otherwise 0.

    Examples:
        >>> answered_right(torch.tensor([-1.0, 0.0, 2.0])).tolist()
        [1.0, 0.5, 0.0]
    """
    return (metric < 0).double() + (metric == 0).double() / 2
