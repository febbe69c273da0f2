"""A model from one site upward: activations in, metric out."""

from __future__ import annotations

from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions.activations import asked, fetch, scored
from interventions.budget import for_each_batch
from interventions.errors import ShapeError
from interventions.forward import gradient, resume
from interventions.metrics import AnyMetric, metric_named
from interventions.model import Model
from interventions.past import Past
from interventions.prompts import Batch, Prompts
from interventions.site import Site


class Upward:
    """What every estimator runs: the blocks above a site, on a task's prompts, once for each activation tried.

    At a residual site the activation says all that the upper blocks need. At an attention or MLP the residual
    stream that enters the block matters too: it is read once, and the blocks below are skipped all the same.

    Args:
        model: the checkpoint.
        prompts: P prompts with their answers.
        site: where activations are put.
        metric: what is read at the last token.

    Examples:
        >>> upward = Upward(model, prompts, Site(1), "logit_difference")  # doctest: +SKIP
        >>> upward.score(decomposition.reconstruction)  # doctest: +SKIP
    """

    def __init__(
        self, model: Model, prompts: Prompts, site: Site, metric: AnyMetric, max_tokens: int | None = None
    ) -> None:
        self.model, self.prompts, self.site = model, prompts, site.resolve(model.n_layers)
        self.metric, self.max_tokens = metric_named(metric), max_tokens or model.max_tokens
        model.envoy(self.site)
        model.check_tokens(prompts)

    @cached_property
    def below(self) -> Float[Tensor, "T D"] | None:
        """The residual stream that enters the site's block, where the site needs it."""
        if self.site.component == "resid" or self.site.layer == 0:
            return None
        entering = Site(self.site.layer - 1)
        return fetch(self.model, self.prompts, [entering])[entering]

    def __call__(
        self, batch: Batch, x: Float[Tensor, "B S D"], past: DynamicCache | None = None
    ) -> Float[Tensor, " B"]:
        """The metric of one batch whose activation at the site is `x`, differentiable in `x`; `past` as in `resume`."""
        below = None if self.below is None else batch.pad(self.below)[:, -x.shape[1] :].to(x)
        forward = partial(resume, self.model, batch.to(self.model.device), self.site, x, below=below, past=past)
        return scored(self.model, self.prompts, batch.rows, self.metric, forward)

    @torch.no_grad()
    def past(self, x: Float[Tensor, "T D"], rows: Int[Tensor, " R"]) -> Past:
        """Keys and values of some prompts when their activations at the site are `x`: a pass of each."""
        pieces: dict[int, tuple[Tensor, DynamicCache]] = {}

        def work(batch: Batch, budget: int) -> None:
            cache = DynamicCache()
            self(batch, self.pad(batch, x), cache)
            pieces[int(batch.rows[0])] = batch.rows, cache

        for_each_batch(self.prompts, self.max_tokens, work, rows)
        return Past.of(len(self.prompts), list(pieces.values()))

    def gradient(
        self,
        batch: Batch,
        start: Float[Tensor, "B S D"],
        end: Float[Tensor, "B S D"],
        nodes: Float[Tensor, " N"],
        weights: Float[Tensor, " N"],
    ) -> Float[Tensor, "B S D"]:
        """``sum_k w_k dm/dx`` at ``x = start + a_k (end - start)``, all nodes in one pass."""
        n, model = len(nodes), self.model
        repeated = batch.repeat(n)
        if model.remote is not None:
            below = None if self.below is None else batch.pad(self.below).to(start)
            then = asked(self.prompts, repeated.rows, self.metric)
            return gradient(model, batch.to(model.device), self.site, start, end, nodes, weights, then, below=below)
        alpha = nodes.to(start).view(-1, 1, 1, 1)
        moved = torch.zeros_like(start, requires_grad=True)
        values = self(repeated, (start + alpha * (end - start) + moved).flatten(0, 1))
        weighted = (values.view(n, -1) * weights.to(model.device, torch.float32).unsqueeze(1)).sum()
        return torch.autograd.grad(weighted, moved)[0].float()

    def pad(self, batch: Batch, x: Float[Tensor, "T D"]) -> Float[Tensor, "B S D"]:
        """Lay flat activations out as the model takes them."""
        return batch.pad(x).to(self.model.device, self.model.dtype)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "T D"], rows: Int[Tensor, " R"] | None = None) -> Float[Tensor, " P"]:
        """The metric of every prompt (zero where `rows` leaves one out) with flat activations `x` at the site.

        Raises:
            ShapeError: `x` has not one row for every token of the prompts.
        """
        if x.shape != (self.prompts.n_tokens, self.model.d_model):
            raise ShapeError(
                f"Putting activations of {len(self.prompts)} prompts at {self.site} takes shape "
                f"{(self.prompts.n_tokens, self.model.d_model)}, one row a token; got {tuple(x.shape)}."
            )
        out = torch.zeros(len(self.prompts))

        def work(batch: Batch, budget: int) -> None:
            out[batch.rows] = self(batch, self.pad(batch, x)).float().cpu()

        for_each_batch(self.prompts, self.max_tokens, work, rows)
        return out
