"""Keys and values of a clean pass, so that a changed prompt runs from its first changed token only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

MAX_BYTES = 1 << 28
"""Upper bound on the keys and values that are held at a time, in bytes."""


@dataclass(frozen=True, eq=False)
class KVCache:
    """KV cache of the blocks that run, for a subset of the prompts, taken from one clean pass.

    Attention is causal, so a change at a token has no effect on the tokens before it. These need not run again: their
    keys and values are all that later tokens read of them.

    Attributes:
        row: for each of the P prompts, its row in `keys` and `values`; -1 for prompts that are not cached.
        keys, values: by index of the block, for the blocks that run. All prompts end in the last slot, as in a batch.
        n_blocks: number of blocks of the model.
    """

    row: Int[Tensor, " P"]
    keys: dict[int, Float[Tensor, "R H W E"]]
    values: dict[int, Float[Tensor, "R H W U"]]
    n_blocks: int

    @classmethod
    def of(cls, n_prompts: int, batches: Sequence[tuple[Int[Tensor, " _"], DynamicCache]]) -> KVCache:
        """Merge the caches that the clean passes of several batches have filled.

        Args:
            n_prompts: P.
            batches: the prompts of each batch, and its cache.
        """
        # Number the rows batch after batch
        row, first = torch.full((n_prompts,), -1), 0
        for prompts, _ in batches:
            row[prompts] = torch.arange(first, first + len(prompts))
            first += len(prompts)

        # Stack the keys and values of each block that ran
        caches = [cache for _, cache in batches]
        n_blocks = len(caches[0].layers)
        ran = [block for block in range(n_blocks) if _is_initialized(caches[0], block)]
        states = {block: [_keys_and_values(cache, block) for cache in caches] for block in ran}
        keys = {block: _stack([k for k, _ in states[block]]) for block in ran}
        values = {block: _stack([v for _, v in states[block]]) for block in ran}
        return cls(row, keys, values, n_blocks)

    def of_batch(self, prompts: Int[Tensor, " B"], width: int, n_run: int) -> DynamicCache:
        """Build the cache of a batch of prompts, `width` slots wide, of which the last `n_run` run."""
        cache, first_keys = DynamicCache(), next(iter(self.keys.values()))
        row, end = self.row[prompts].to(first_keys.device), first_keys.shape[2]
        cached = slice(end - width, end - n_run)

        # Blocks that are skipped read no keys, but transformers asks the first block for the length of the cache
        empty = first_keys.new_zeros(()).expand(len(prompts), 1, width - n_run, 1)
        for block in range(self.n_blocks):
            runs = block in self.keys
            keys = self.keys[block][row, :, cached] if runs else empty
            values = self.values[block][row, :, cached] if runs else empty
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache


def _is_initialized(cache: DynamicCache, block: int) -> bool:
    layer = cache.layers[block]
    return isinstance(layer, DynamicLayer) and layer.is_initialized


def _keys_and_values(cache: DynamicCache, block: int) -> tuple[Tensor, Tensor]:
    """Return the keys and values that a block has written."""
    layer = cache.layers[block]
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
        raise TypeError(f"Block {block} has written no keys and values of the kind that can be cut and merged.")
    return layer.keys, layer.values


def _stack(tensors: Sequence[Float[Tensor, "_ H _ E"]]) -> Float[Tensor, "R H W E"]:
    """Concatenate batches of different widths, with zeros before the shorter ones."""
    width = max(tensor.shape[2] for tensor in tensors)
    pad = torch.nn.functional.pad
    return torch.cat([pad(tensor, (0, 0, width - tensor.shape[2], 0)) for tensor in tensors])
