"""Patch activations at any sites and positions, and score the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.errors import ShapeError
from interventions.forward import Edit, run
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric, metric_named
from interventions.model import Model
from interventions.prompts import Batch, Prompts
from interventions.score import score_batch
from interventions.site import Site
from interventions.upward import Upward


def patch(
    model: Model,
    prompts: Prompts,
    activations: Mapping[Site, Float[Tensor, "T D"]] | Mapping[str, Float[Tensor, "T D"]],
    metric: AnyMetric = LOGIT_DIFFERENCE,
    *,
    positions: str | Sequence[tuple[int, int]] = "all",
) -> Float[Tensor, " P"]:
    """Compute the metric of every prompt with the activations at one or several sites replaced in one forward pass.

    Args:
        model: the checkpoint.
        prompts: P prompts with right and wrong answers.
        activations: site, or its text, -> flat activations, one row for every token of the prompts. Rows of tokens
            that `positions` leaves out are not used.
        metric: what is read at the last token.
        positions: ``all``, ``last``, or a token span (first, end) for each prompt.

    Returns:
        The metric of each prompt.

    Raises:
        ShapeError: activations of another shape, or spans that do not fit the prompts.
        SiteError: the model has no such site.

    Examples:
        >>> patch(model, prompts, {Site(1): decomposition.reconstruction})  # doctest: +SKIP
        >>> patch(model, prompts, {Site(0, "mlp"): x, Site(1, "attn"): y}, positions="last")  # doctest: +SKIP
    """
    # Check the shapes.
    model.check_tokens(prompts)
    expected = (prompts.n_tokens, model.d_model)
    for site, x in activations.items():
        if x.shape != expected:
            raise ShapeError(
                f"Patching {len(prompts)} prompts at {site} takes activations of shape {expected}, one row a token; "
                f"got {tuple(x.shape)}."
            )

    # With a single site that is replaced as a whole, only the blocks above it need to run.
    if len(activations) == 1 and positions == "all":
        ((site, x),) = activations.items()
        return Upward(model, prompts, site, metric).score(x)

    # Otherwise run the whole model, and replace the chosen positions on the way.
    metric, position_mask = metric_named(metric), prompts.at(positions).unsqueeze(1)
    scores = torch.empty(len(prompts))

    def work(batch: Batch, budget: int) -> None:
        mask = batch.pad(position_mask.float()).bool().to(model.device)
        edits = {
            Site.of(site): _replacement(batch.pad(x).to(model.device, model.dtype), mask)
            for site, x in activations.items()
        }
        forward = partial(run, model, batch.to(model.device), edits)
        scores[batch.rows] = score_batch(model, prompts, batch.rows, metric, forward).float().cpu()

    with torch.no_grad():
        for_each_batch(prompts, model.max_tokens, work, equal_lengths=model.equal_lengths)
    return scores


def _replacement(x: Tensor, mask: Tensor) -> Edit:
    """An edit that puts x at the positions of the mask."""
    return lambda value: torch.where(mask.to(value.device), x.to(value), value)
