"""The metric of every prompt, computed from as few logits as it needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.forward import Edit, Reduction, answer_logits, logits, run
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric, Metric, metric_named
from interventions.model import Model
from interventions.prompts import Batch, Prompts
from interventions.reductions import metric_of_logits
from interventions.site import Site


@runtime_checkable
class Forward(Protocol):
    """A forward pass of one batch, such as `forward.run` with its arguments bound."""

    def __call__(self, *, reduce: Reduction | None = None) -> Tensor: ...  # noqa: D102


def score(
    model: Model,
    prompts: Prompts,
    metric: AnyMetric = LOGIT_DIFFERENCE,
    *,
    edits: Mapping[Site, Edit] | Mapping[str, Edit] | None = None,
) -> Float[Tensor, " P"]:
    """Compute the metric of every prompt, optionally with sites edited on the way.

    With the default metric, logit(wrong) - logit(right), a prompt is answered right where the result is negative.

    Args:
        model: the model to run.
        prompts: P prompts with right and wrong answers.
        metric: what is computed from the logits of the last token.
        edits: for each site to edit, or its text, a function that takes its activation ``B S D`` and returns the
            replacement.

    Returns:
        The metric of each prompt.

    Examples:
        >>> accuracy = (score(model, prompts) < 0).float().mean()  # doctest: +SKIP
    """
    metric = metric_named(metric)
    model.check_tokens(prompts)
    out = torch.empty(len(prompts), dtype=torch.float32)

    def work(batch: Batch, budget: int) -> None:
        forward = partial(run, model, batch.to(model.device), edits)
        out[batch.rows] = score_batch(model, prompts, batch.rows, metric, forward).float().cpu()

    with torch.no_grad():
        for_each_batch(prompts, model.max_tokens, work, equal_lengths=model.equal_lengths)
    return out


def score_batch(
    model: Model, prompts: Prompts, rows: Int[Tensor, " B"], metric: Metric, forward: Forward
) -> Float[Tensor, " B"]:
    """Compute the metric of one batch where the model is, so that a server returns nothing else.

    Args:
        model: the model to run.
        prompts: all prompts.
        rows: indices of the batch's prompts.
        metric: the metric.
        forward: runs the batch.
    """
    if model.remote is not None:
        return metric.check(forward(reduce=metric_of_logits(prompts, rows, metric)), len(rows))

    end = forward()
    right, wrong = (answer.to(end.device) for answer in prompts.answers(rows))
    if metric.from_answers is None:
        return metric(logits(model, end).float(), right, wrong)
    right_logit, wrong_logit = (answer_logits(model, end, answer).float() for answer in (right, wrong))
    return metric.check(metric.from_answers(right_logit, wrong_logit), len(rows))
