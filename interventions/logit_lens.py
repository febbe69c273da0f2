"""What a direction of the residual stream writes into the logits, from the weights alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.errors import InterventionError, ShapeError
from interventions.model import Model


@torch.no_grad()
def readout(model: Model, directions: Float[Tensor, "K D"], *, fold_norm: bool = True) -> Float[Tensor, "K V"]:
    """The direct effect of residual directions on every token's logit: the logit lens of a direction.

    ``W_U (g * d)``, less its mean over the vocabulary, which no probability depends on. With `fold_norm` g is
    the final norm's weight, and d is centred first where that norm centres (a LayerNorm, not an RMSNorm); the
    division by the residual stream's size, which differs from token to token, is left out, so that effects of
    one checkpoint compare with each other and only roughly with another's. Layers in between are left out too.

    Args:
        model: the checkpoint; its weights must be here, not on a server.
        directions: K directions of width D.
        fold_norm: False multiplies the unembedding with the direction as it is.

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
    unembedding = model.unembedding.weight.float()
    moved = directions.to(unembedding)
    if fold_norm:
        norm = model.module.get_submodule(model.architecture.norm)
        probe = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(0))
        if _centres(norm, probe.to(unembedding.device, model.dtype)):
            moved = moved - moved.mean(-1, keepdim=True)
        weight = getattr(norm, "weight", None)
        if weight is not None:
            moved = moved * weight.float()
    logits = moved @ unembedding.T
    return logits - logits.mean(-1, keepdim=True)


def _centres(norm: torch.nn.Module, probe: Float[Tensor, "1 D"]) -> bool:
    """Whether a norm takes the mean away: then adding a constant to its input changes nothing."""
    difference = (norm(probe + 1) - norm(probe)).abs().max()
    return bool(difference < 0.01 * norm(probe).abs().max())
