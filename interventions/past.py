"""Keys and values of an unchanged pass, so that a change runs from its own token on and not from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

MOST_BYTES = 1 << 28
"""Of keys and values that are kept at a time."""


@dataclass(frozen=True, eq=False)
class Past:
    """What attention reads of a token in the blocks that run: keys and values of some prompts, from a pass of theirs.

    Attention is causal, so a change at a token moves nothing before it: the tokens before the first change need not
    run again, and their keys and values are all that the others see of them.

    Attributes:
        place: of each of all P prompts, its row below; -1 where it has none.
        keys, values: by block, for the blocks that run. Prompts end in the last slot, as those of a batch do.
        n_blocks: of the model.
    """

    place: Int[Tensor, " P"]
    keys: dict[int, Float[Tensor, "R H W E"]]
    values: dict[int, Float[Tensor, "R H W E"]]
    n_blocks: int

    @classmethod
    def of(cls, n_prompts: int, pieces: Sequence[tuple[Int[Tensor, " _"], DynamicCache]]) -> Past:
        """Put together what passes of some prompts each have written into caches that were empty."""
        place, first = torch.full((n_prompts,), -1), 0
        for rows, _ in pieces:
            place[rows] = torch.arange(first, first + len(rows))
            first += len(rows)
        layers = [cache.layers for _, cache in pieces]
        ran = [block for block, layer in enumerate(layers[0]) if layer.is_initialized]
        keys = {block: _stacked([each[block].keys for each in layers]) for block in ran}
        values = {block: _stacked([each[block].values for each in layers]) for block in ran}
        return cls(place, keys, values, len(layers[0]))

    def cache(self, rows: Int[Tensor, " B"], width: int, changed: int) -> DynamicCache:
        """For a batch of prompts `rows`, `width` slots wide, of which only the last `changed` are to run."""
        cache, some = DynamicCache(), next(iter(self.keys.values()))
        place, end = self.place[rows].to(some.device), some.shape[2]
        earlier = slice(end - width, end - changed)
        # Blocks that do not run read nothing, but the first one is asked how long the past is.
        nothing = some.new_zeros(()).expand(len(rows), 1, width - changed, 1)
        for block in range(self.n_blocks):
            runs = block in self.keys
            keys = self.keys[block][place, :, earlier] if runs else nothing
            values = self.values[block][place, :, earlier] if runs else nothing
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache


def _stacked(parts: Sequence[Float[Tensor, "_ H _ E"]]) -> Float[Tensor, "R H W E"]:
    """One row a prompt, each ending in the last slot."""
    width = max(part.shape[2] for part in parts)
    pad = torch.nn.functional.pad
    return torch.cat([pad(part, (0, 0, width - part.shape[2], 0)) for part in parts])
