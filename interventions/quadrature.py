"""Nodes and weights on [0, 1] for the integral along a path between two activations."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interventions.errors import InterventionError
from interventions.option_names import RULES
from user_input.nearest import nearest


def nodes_and_weights(rule: str, steps: int) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Nodes and weights of a quadrature rule on [0, 1]: ``integral_0^1 g(a) da ~ sum_k w_k g(a_k)``.

    ``left`` is the left Riemann sum, which CTT uses with 10 steps; ``midpoint`` is the midpoint rule; and
    ``gauss-legendre`` is exact for polynomials up to degree ``2 * steps - 1``, so that it needs the fewest steps.

    Args:
        rule: one of `RULES`.
        steps: number K of nodes.

    Returns:
        The nodes a_k in ascending order and the weights w_k, which add up to 1.

    Raises:
        InterventionError: an unknown rule, or fewer than one step.

    Examples:
        >>> nodes_and_weights("left", 4)[0].tolist()
        [0.0, 0.25, 0.5, 0.75]
        >>> a, w = nodes_and_weights("gauss-legendre", 2)
        >>> round(float((w * a**3).sum()), 6)
        0.25
    """
    if steps < 1:
        raise InterventionError(f"A quadrature needs at least one step, not {steps}.")
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        nodes, weights = (nodes + 1) / 2, weights / 2
    elif rule in ("left", "midpoint"):
        nodes = (np.arange(steps) + (0.5 if rule == "midpoint" else 0.0)) / steps
        weights = np.full(steps, 1 / steps)
    else:
        raise InterventionError(f"There is no quadrature rule {rule!r}: {nearest(rule, RULES)}")
    return torch.tensor(nodes, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
