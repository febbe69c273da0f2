"""The decoder norm at initialisation that reconstructs the first batch best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from crosstime.training.trainer import Trainer

COARSE = (0.1, 5.0, 50)
"""First, last and number of the norms that are tried first."""
FINE = (-0.09, 0.1, 20)
"""First, last and number of the norms that are tried then, relative to the best of them."""


@torch.no_grad()
def search_decoder_norm(trainer: Trainer, x: Float[Tensor, "B C D"]) -> float:
    """Initialise a crosscoder with the decoder norm that minimises the reconstruction error of its first batch.

    All decoder directions get the same norm, and the encoder is their transpose. The norms are tried in two passes, a
    coarse one over 0.1, 0.2, ..., 5.0 and a fine one in steps of 0.01 around the best of these. What the encoder had
    learned before is lost; thresholds and biases stay as they are.

    Args:
        trainer: the trainer of the crosscoder, whose error is minimised.
        x: the first batch, in the models' own scale; of several processes, each has its rows.

    Returns:
        The norm.

    Examples:
        >>> from crosstime.crosscoders.origin import Origin
        >>> from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
        >>> from interventions import Site
        >>> from crosstime.training.trainer_of import trainer_of
        >>> config = PerCheckpointJumpReLUConfig(n_features=16)
        >>> crosscoder = config.crosscoder(Origin("tiny", ("a", "b"), Site(0), 8))
        >>> norm = search_decoder_norm(trainer_of(config, crosscoder), torch.randn(32, 2, 8))
        >>> torch.allclose(crosscoder.decoder_norms(), torch.tensor(norm))
        True

    Source: llamascopium 2.0.0b34, ``initializer.py`` (`Initializer.initialization_search`).
    """
    crosscoder, processes = trainer.crosscoder, trainer.processes
    scaled = x.to(crosscoder.W_dec) * crosscoder.scales.unsqueeze(-1)
    directions = crosscoder.W_dec / crosscoder.W_dec.norm(dim=-1, keepdim=True)

    def set_norm(norm: float) -> None:
        torch.mul(directions, norm, out=crosscoder.W_dec.data)
        crosscoder.W_enc.copy_(rearrange(crosscoder.W_dec, "f c d -> c d f"))

    def best_of(first: float, last: float, number: int) -> float:
        errors = {}
        for norm in torch.linspace(first, last, number).tolist():
            set_norm(norm)
            error = trainer.error(scaled, crosscoder.decode_scaled(crosscoder.encode_scaled(scaled)))
            processes.mean_(error)
            errors[norm] = error.item()
        return min(errors, key=lambda norm: errors[norm])

    coarse = best_of(*COARSE)
    fine = best_of(coarse + FINE[0], coarse + FINE[1], FINE[2])
    set_norm(fine)
    return fine
