"""The straight path between two activations of a site, and the mean gradient of the metric along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.prompts import Batch
from interventions.quadrature import nodes_and_weights
from interventions.upward import Upward

FEWEST_STEPS, MOST_STEPS = 6, 96
"""Nodes that every prompt starts with, and the upper bound for one prompt, where the number of nodes is adaptive."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Path:
    """The straight path of the activations from one state to another: ``x(a) = start + a (end - start)``.

    Attributes:
        upward: the model above the site, on P prompts.
        start, end: activations of all tokens in the two states.
    """

    upward: Upward
    start: Float[Tensor, "T D"]
    end: Float[Tensor, "T D"]

    def mean_gradient(
        self, rule: str, steps: int, *, rows: Int[Tensor, " R"] | None = None, progress: Progress | None = None
    ) -> Float[Tensor, "T D"]:
        """``sum_k w_k dm/dx`` at the nodes ``x(a_k)`` of a quadrature rule.

        Prompts and nodes share batches: one forward and backward pass serves as many of both as the budget allows.

        Args:
            rule, steps: see `nodes_and_weights`.
            rows: the prompts to run; by default all. Tokens of other prompts have gradient zero.
            progress: called with (prompts done, prompts in all).
        """
        upward, prompts, model = self.upward, self.upward.prompts, self.upward.model
        nodes, weights = nodes_and_weights(rule, steps)
        gradient = torch.zeros(prompts.n_tokens, model.d_model)
        n_done, n_prompts = 0, len(prompts) if rows is None else len(rows)

        def work(batch: Batch, budget: int) -> None:
            nonlocal n_done
            start, end = upward.pad(batch, self.start), upward.pad(batch, self.end)

            # Sum over the nodes, in chunks that fit the budget beside each other.
            chunk_size = max(1, budget // batch.mask.numel())
            total = torch.zeros_like(start, dtype=torch.float32)
            for first in range(0, steps, chunk_size):
                chunk = slice(first, first + chunk_size)
                total += upward.gradient(batch, start, end, nodes[chunk], weights[chunk])

            batch.unpad(total, gradient)
            n_done += len(batch.rows)
            if progress is not None:
                progress(n_done, n_prompts)

        for_each_batch(prompts, model.max_tokens, work, rows, equal_lengths=model.equal_lengths)
        return gradient

    def adaptive_mean_gradient(
        self, rule: str, tolerance: float, change: Float[Tensor, " P"], progress: Progress | None = None
    ) -> Float[Tensor, "T D"]:
        """Mean gradient with as many nodes for each prompt as its completeness error requires.

        Every prompt starts with `FEWEST_STEPS` nodes. While the errors of all prompts together exceed the tolerance,
        the prompts with the largest errors are integrated again with more nodes, up to `MOST_STEPS`.

        Args:
            rule: see `nodes_and_weights`.
            tolerance: largest sum of the prompts' errors, relative to the sum of ``|change|``.
            change: ``m(end) - m(start)`` of each prompt, which its effects must add up to.
            progress: called with (prompts done, prompts in all), for every round of refinement.
        """
        prompts = self.upward.prompts
        gradient = self.mean_gradient(rule, FEWEST_STEPS, progress=progress)
        steps = torch.full((len(prompts),), FEWEST_STEPS)
        allowed_error = tolerance * change.abs().sum()
        while True:
            # Compare the sum of the effects with the known change.
            errors = self.completeness_errors(gradient, change)
            if errors.sum() <= allowed_error:
                return gradient

            # Choose the prompts that get more nodes.
            refinement = _largest_errors(errors, allowed_error / 2) & (steps < MOST_STEPS)
            if not refinement.any():
                return gradient

            # With half as many nodes again, the error falls by a factor of about ten. Prompts that are farther off get
            # three times as many at once, which spares them a round.
            far_off = errors > 10 * allowed_error / len(prompts)
            more_steps = torch.where(far_off, 3 * steps, 3 * steps // 2)
            steps = torch.where(refinement, more_steps, steps).clamp(max=MOST_STEPS)

            # Integrate these prompts again, together where they have the same number of nodes.
            for n_steps in torch.unique(steps[refinement]).tolist():
                rows = (refinement & (steps == n_steps)).nonzero().squeeze(1)
                finer_gradient = self.mean_gradient(rule, n_steps, rows=rows, progress=progress)
                tokens = torch.isin(prompts.sequence_of_token, rows)
                gradient[tokens] = finer_gradient[tokens]

    def completeness_errors(self, gradient: Float[Tensor, "T D"], change: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """``|<gradient, end - start> - change|`` of each prompt: how far its effects are from adding up."""
        by_token = (gradient * (self.end - self.start).to(gradient)).sum(1)
        total = torch.zeros_like(change).index_add(0, self.upward.prompts.sequence_of_token, by_token)
        return (total - change).abs()


def _largest_errors(errors: Float[Tensor, " P"], remainder: Float[Tensor, ""]) -> Bool[Tensor, " P"]:
    """The prompts with the largest errors; the errors of all other prompts add up to at most `remainder`."""
    ascending = errors.argsort()
    largest = torch.zeros_like(errors, dtype=torch.bool)
    largest[ascending] = errors[ascending].cumsum(0) > remainder
    return largest
