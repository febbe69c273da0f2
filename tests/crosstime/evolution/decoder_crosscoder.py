"""A crosscoder of which only the decoder matters."""

from __future__ import annotations

import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from interventions import Site


def decoder_crosscoder(directions: torch.Tensor, revisions: tuple[str, ...] = ("a", "b")) -> CrossCoder:
    """A crosscoder with these decoder directions ``F C D``."""
    crosscoder = CrossCoder(Origin("mine", revisions, Site(0), directions.shape[2]), len(directions))
    with torch.no_grad():
        crosscoder.W_dec.copy_(directions)
    return crosscoder
