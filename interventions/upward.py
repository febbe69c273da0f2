"""The model from one site upward: activations in, metric out."""

from __future__ import annotations

from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions.budget import for_each_batch
from interventions.errors import ShapeError
from interventions.fetch import fetch
from interventions.forward import gradient, resume
from interventions.kv_cache import KVCache
from interventions.metrics import AnyMetric, metric_named
from interventions.model import Model
from interventions.prompts import Batch, Prompts
from interventions.reductions import metric_of_logits
from interventions.score import score_batch
from interventions.site import Site


class Upward:
    """The blocks above a site on a task's prompts, which every estimator runs once for each activation that it tries.

    At a residual site the activation determines the upper blocks. At an attention or MLP the residual stream that
    enters the block matters too: it is read once, and the blocks below are skipped all the same.

    Args:
        model: the checkpoint.
        prompts: P prompts with their answers.
        site: where activations are put.
        metric: what is computed from the logits of the last token.

    Examples:
        >>> upward = Upward(model, prompts, Site(1), "logit_difference")  # doctest: +SKIP
        >>> upward.score(decomposition.reconstruction)  # doctest: +SKIP
    """

    def __init__(self, model: Model, prompts: Prompts, site: Site | str, metric: AnyMetric) -> None:
        self.model, self.prompts, self.site = model, prompts, Site.of(site).resolve(model.n_layers)
        self.metric = metric_named(metric)
        model.envoy(self.site)
        model.check_tokens(prompts)

    @cached_property
    def below(self) -> Float[Tensor, "T D"] | None:
        """The residual stream that enters the site's block, for sites that need it."""
        if self.site.component == "resid" or self.site.layer == 0:
            return None
        entering = Site(self.site.layer - 1)
        return fetch(self.model, self.prompts, [entering])[entering]

    def __call__(
        self, batch: Batch, x: Float[Tensor, "B S D"], cache: DynamicCache | None = None
    ) -> Float[Tensor, " B"]:
        """Compute the metric of one batch with activation `x` at the site, differentiably; `cache` as in `resume`."""
        below = None if self.below is None else batch.pad(self.below)[:, -x.shape[1] :].to(x)
        forward = partial(resume, self.model, batch.to(self.model.device), self.site, x, below=below, cache=cache)
        return score_batch(self.model, self.prompts, batch.rows, self.metric, forward)

    @torch.no_grad()
    def kv_cache(self, x: Float[Tensor, "T D"], rows: Int[Tensor, " R"]) -> KVCache:
        """Run the prompts with indices `rows` once, with activations `x` at the site, and return their KV cache."""
        caches: dict[int, tuple[Tensor, DynamicCache]] = {}

        def work(batch: Batch, budget: int) -> None:
            cache = DynamicCache()
            self(batch, self.pad(batch, x), cache)
            caches[int(batch.rows[0])] = batch.rows, cache

        for_each_batch(self.prompts, self.model.max_tokens, work, rows, equal_lengths=self.model.equal_lengths)
        return KVCache.of(len(self.prompts), list(caches.values()))

    def gradient(
        self,
        batch: Batch,
        start: Float[Tensor, "B S D"],
        end: Float[Tensor, "B S D"],
        nodes: Float[Tensor, " N"],
        weights: Float[Tensor, " N"],
    ) -> Float[Tensor, "B S D"]:
        """Compute ``sum_k w_k dm/dx`` at ``x = start + a_k (end - start)``, all nodes in one pass.

        Args:
            batch: the batch to run.
            start, end: activations at the site.
            nodes, weights: a and w.
        """
        n, model = len(nodes), self.model
        repeated = batch.repeat(n)
        if model.remote is not None:
            below = None if self.below is None else batch.pad(self.below).to(start)
            reduce = metric_of_logits(self.prompts, repeated.rows, self.metric)
            on_device = batch.to(model.device)
            return gradient(model, on_device, self.site, (start, end), (nodes, weights), reduce, below=below)

        alpha = nodes.to(start).view(-1, 1, 1, 1)
        shift = torch.zeros_like(start, requires_grad=True)
        values = self(repeated, (start + alpha * (end - start) + shift).flatten(0, 1))
        weighted = (values.view(n, -1) * weights.to(model.device, torch.float32).unsqueeze(1)).sum()
        return torch.autograd.grad(weighted, shift)[0].float()

    def pad(self, batch: Batch, x: Float[Tensor, "T D"]) -> Float[Tensor, "B S D"]:
        """Arrange flat activations in the slots of a batch, on the model's device and in its dtype."""
        return batch.pad(x).to(self.model.device, self.model.dtype)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "T D"], rows: Int[Tensor, " R"] | None = None) -> Float[Tensor, " P"]:
        """Compute the metric of every prompt with flat activations `x` at the site.

        Args:
            x: one row for every token of the prompts.
            rows: indices of the prompts to run; the metric of the others is zero. None is all.

        Raises:
            ShapeError: `x` does not have one row for every token of the prompts.
        """
        if x.shape != (self.prompts.n_tokens, self.model.d_model):
            raise ShapeError(
                f"Putting activations of {len(self.prompts)} prompts at {self.site} takes shape "
                f"{(self.prompts.n_tokens, self.model.d_model)}, one row a token; got {tuple(x.shape)}."
            )
        out = torch.zeros(len(self.prompts))

        def work(batch: Batch, budget: int) -> None:
            out[batch.rows] = self(batch, self.pad(batch, x)).float().cpu()

        for_each_batch(self.prompts, self.model.max_tokens, work, rows, equal_lengths=self.model.equal_lengths)
        return out
