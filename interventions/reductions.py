"""Functions that reduce the logits of a forward pass to a few numbers where the model runs.

Each is a lambda that names only tensors and functions of tensors, so that its source can be sent to a server.
"""

from __future__ import annotations

import inspect

import torch
from jaxtyping import Int
from torch import Tensor

from interventions.errors import InterventionError
from interventions.forward import Reduction
from interventions.metrics import Metric
from interventions.prompts import Batch, Prompts


def metric_of_logits(prompts: Prompts, rows: Int[Tensor, " B"], metric: Metric) -> Reduction:
    """Return the metric of the prompts with indices `rows`, ``B``, as a function of their last logits ``B V``."""
    right, wrong = prompts.answers(rows)
    if metric.from_answers is not None:
        from_answers, answers = inspect.unwrap(metric.from_answers), torch.stack([right, wrong], 1)
        return lambda rows: from_answers(*rows.gather(1, answers.to(rows.device)).float().unbind(1))
    if metric.from_vocabulary is None:
        raise InterventionError(f"Metric {metric.name!r} needs from_answers or from_vocabulary; it has neither.")
    from_vocabulary = inspect.unwrap(metric.from_vocabulary)
    return lambda rows: from_vocabulary(rows.float(), right.to(rows.device), wrong.to(rows.device))


def next_token_log_probs(batch: Batch) -> Reduction:
    """Return the log-probability of each next token, ``B S-1``, as a function of all logits ``B S V``."""
    following = batch.input_ids[:, 1:].unsqueeze(-1).clone()
    return lambda rows: (
        rows[:, :-1].gather(2, following.to(rows.device)).squeeze(-1).float() - rows[:, :-1].float().logsumexp(-1)
    )
