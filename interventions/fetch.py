"""Read activations, batch by batch under the model's token budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.errors import InterventionError
from interventions.forward import read
from interventions.model import Model
from interventions.prompts import Batch, Sequences
from interventions.site import Site

Place = TypeVar("Place", Site, str)
"""A site, or the text that names it."""


def fetch(
    model: Model,
    sequences: Sequences,
    sites: Iterable[Place],
    *,
    positions: str | Iterable[tuple[int, int]] = "all",
    device: torch.device | str = "cpu",
) -> dict[Place, Float[Tensor, "T D"]]:
    """Read the activations at each site, flat and without padding, from one forward pass for each batch.

    The model stops at the last of the sites.

    Args:
        model: the model to run.
        sequences: the token sequences.
        sites: where to read; sites, or texts such as ``"resid.1"``.
        positions: ``all`` tokens, the ``last`` of each sequence, or a span (first, end) for each sequence.
        device: device of the result.

    Returns:
        For each of `sites`, one row for each token at `positions`, in the model's dtype.

    Raises:
        SiteError: the model has no such site.
        InterventionError: an activation is NaN or infinite; names the model, site and sequence.

    Examples:
        >>> x = fetch(model, Sequences(((5, 6, 7), (8,))), [Site(1)])[Site(1)]  # doctest: +SKIP
        >>> x.shape  # doctest: +SKIP
        torch.Size([4, 64])
    """
    places = {place: Site.of(place).resolve(model.n_layers) for place in sites}
    model.check_tokens(sequences)
    flat = {place: torch.zeros(sequences.n_tokens, model.d_model, dtype=model.dtype, device=device) for place in places}
    selected = sequences.at(positions if isinstance(positions, str) else list(positions))

    def work(batch: Batch, budget: int) -> None:
        slots = batch.pad(selected.float().unsqueeze(1)).squeeze(-1).bool().to(model.device)
        activations = read(model, batch.to(model.device), places.values(), slots=slots)
        for place, x in flat.items():
            batch.unpad(activations[places[place]], x)

    for_each_batch(sequences, model.max_tokens, work, equal_lengths=model.equal_lengths)
    for place, x in flat.items():
        _reject_nan(x, sequences, model, Site.of(place))
    if selected.all():
        return flat
    return {place: x[selected.to(x.device)] for place, x in flat.items()}


def _reject_nan(x: Tensor, sequences: Sequences, model: Model, site: Site) -> None:
    """Raise an error that names the first token with a NaN or infinite activation."""
    invalid = (~x.isfinite().all(1)).nonzero()
    if len(invalid):
        token = int(invalid[0])
        raise InterventionError(
            f"{model.name} has NaN or infinite activations at {site}, first in sequence "
            f"{int(sequences.sequence_of_token[token])} at position {int(sequences.position_of_token[token])}."
        )
