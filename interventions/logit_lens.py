"""The logit lens of directions: which tokens they promote, computed from the weights alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.errors import InterventionError, ShapeError
from interventions.model import Model


@torch.no_grad()
def readout(model: Model, directions: Float[Tensor, "K D"], *, fold_norm: bool = True) -> Float[Tensor, "K V"]:
    """Compute the direct effect of directions of the residual stream on the logit of every token.

    ``W_U (g * d)``, minus its mean over the vocabulary, on which no probability depends. With `fold_norm`, g is the
    weight of the final norm, and d is centred first if that norm subtracts the mean (a LayerNorm does, an RMSNorm does
    not). Two things are left out: the blocks above the direction's site, and the norm's division by the size of the
    residual stream. That size differs between tokens and checkpoints, so that effects can be compared within one
    checkpoint, and only roughly between checkpoints.

    Args:
        model: the checkpoint; its weights must be in this process, not on a server.
        directions: K directions of width D.
        fold_norm: if False, the unembedding is multiplied with the direction as it is.

    Returns:
        The effect of one unit of each direction on each of V logits.

    Raises:
        InterventionError: the model runs on a server.
        ShapeError: directions of another width.

    Examples:
        >>> readout(model, decomposition.directions[:3]).topk(5)  # doctest: +SKIP

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Geva et al. 2022 (arXiv 2203.14680), section 3.
    """
    if getattr(model, "remote", None) is not None:
        raise InterventionError(f"{model.name} runs on a server, so its unembedding cannot be read here.")
    if directions.shape[1] != model.d_model:
        raise ShapeError(f"Directions have width {directions.shape[1]}, but {model.name} has {model.d_model}.")
    unembedding = model.unembedding.get_parameter("weight").float()
    inputs = directions.to(unembedding)

    # Fold the final norm into the directions.
    if fold_norm:
        norm = model.module.get_submodule(model.architecture.norm)
        probe = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(0))
        if _subtracts_mean(norm, probe.to(unembedding.device, model.dtype)):
            inputs = inputs - inputs.mean(-1, keepdim=True)
        weight = getattr(norm, "weight", None)
        if isinstance(weight, Tensor):
            inputs = inputs * weight.float()

    # Unembed.
    logits = inputs @ unembedding.T
    return logits - logits.mean(-1, keepdim=True)


def _subtracts_mean(norm: torch.nn.Module, probe: Float[Tensor, "1 D"]) -> bool:
    """Whether a norm subtracts the mean of its input, so that adding a constant to the input changes nothing."""
    difference = (norm(probe + 1) - norm(probe)).abs().max()
    return bool(difference < 0.01 * norm(probe).abs().max())
