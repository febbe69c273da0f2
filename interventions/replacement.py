"""Replace features' activations in a forward pass, running only what the replacement can change.

1. Pair every prompt with every group of features that changes something in it (`_Pairs`).
2. Take the pairs in chunks, in order of the prompts' lengths, so that the KV cache of a chunk's prompts fits into
   `kv_cache.MAX_BYTES`.
3. If that saves work, run each prompt of the chunk once unchanged and keep its KV cache.
4. Sort the chunk's pairs by the number of tokens from the first changed one on, and run them in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions import kv_cache
from interventions.budget import for_each_run
from interventions.codes import Codes, entries_of
from interventions.prompts import Prompts
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Replaced:
    """The metric of every (prompt, group of features) for which replacing the group changes something.

    Attributes:
        prompt, group: indices of each pair; pairs that are not listed have the clean metric.
        metric: the metric with the group replaced.
    """

    prompt: Int[Tensor, " Q"]
    group: Int[Tensor, " Q"]
    metric: Float[Tensor, " Q"]


def replace(
    upward: Upward,
    x: Float[Tensor, "T D"],
    change: Codes,
    directions: Float[Tensor, "F D"],
    groups: Sequence[Sequence[int]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Replaced:
    """Run each prompt with each group of features changed by `change`, from the site and the first change upward.

    The activation of a prompt with a group is ``x + sum over the group's features i of change[:, i] directions[i]``.
    Only pairs with a non-zero change run, each from the first token that changes; the keys and values of the tokens
    before it come from one clean pass of each prompt. Pairs with equally many tokens to run share a batch.

    Args:
        upward: the model above the site, on P prompts.
        x: the clean activations, flat.
        change: what is added to each feature's activation at each token (-f for zero ablation).
        directions: the features' directions in the model's own scale.
        groups: the features of each group, which are replaced together.
        progress: called with (finished pairs, all pairs).

    Raises:
        FeatureError: a group names a feature that does not exist.
    """
    pairs = _Pairs.of(upward.prompts, change, groups)
    metric = torch.empty(len(pairs.prompt), dtype=torch.float32)
    directions = directions.to(upward.model.device)
    finished = 0

    def advance(n: int) -> None:
        nonlocal finished
        finished += n
        if progress is not None:
            progress(finished, len(pairs.prompt))

    with torch.no_grad():
        for chunk in _chunks(upward, pairs):
            _run_chunk(upward, x, directions, pairs, chunk, metric, advance)
    return Replaced(pairs.prompt, pairs.group, metric)


def _run_chunk(
    upward: Upward,
    x: Float[Tensor, "T D"],
    directions: Float[Tensor, "F D"],
    pairs: _Pairs,
    chunk: Int[Tensor, " q"],
    metric: Float[Tensor, " Q"],
    advance: Callable[[int], None],
) -> None:
    """Run the pairs with indices `chunk`, and write their metrics into `metric`."""
    # Run the prompts unchanged if their KV cache saves work
    prompts = upward.prompts
    length, n_changed = prompts.lengths[pairs.prompt[chunk]], pairs.n_changed[chunk]
    rows = torch.unique(pairs.prompt[chunk])
    rows = rows[torch.argsort(prompts.lengths[rows], stable=True)]
    saves = int(n_changed.sum() + prompts.lengths[rows].sum()) < int(length.sum())
    caches = upward.kv_cache(x, rows) if saves and _can_resume(upward) else None

    # Sort the pairs by their work; a cached slot costs memory, but little work, and counts as an eighth of a slot
    n_run = length if caches is None else n_changed
    order = torch.argsort(n_run * int(length.max() + 1) + length, stable=True)
    size, chunk = (n_run + (length - n_run + 7) // 8)[order], chunk[order]

    def work(run: slice, budget: int) -> None:
        # Add the change to the slots that run
        of_run = chunk[run]
        batch = prompts.batch(pairs.prompt[of_run])
        width = batch.mask.shape[1]
        last = width if caches is None else int(pairs.n_changed[of_run].max())
        added = pairs.codes(of_run, last, len(directions)).to(directions.device)
        changed = batch.pad(x)[:, width - last :].to(directions)
        changed = changed + added.decode(directions).view(len(of_run), last, -1)

        # Run them after the cached slots
        cache = caches.of_batch(batch.rows, width, last) if caches is not None and last < width else None
        metric[of_run] = upward(batch, changed.to(upward.model.dtype), cache).float().cpu()
        advance(len(of_run))

    # Without a cache, sizes are lengths
    for_each_run(size, upward.model.max_tokens, work, equal_lengths=upward.model.equal_lengths)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Every prompt with every group that changes something in it, in order of the prompts' lengths.

    Attributes:
        prompt, group: indices.
        n_changed: number of tokens from the first changed one to the last of the prompt.
        n_entries: number of entries of each pair in the three tensors below.
        from_end, feature, value: the entries: which token, counted back from the last one (1), which feature, and by
            how much it changes.
    """

    prompt: Int[Tensor, " Q"]
    group: Int[Tensor, " Q"]
    n_changed: Int[Tensor, " Q"]
    n_entries: Int[Tensor, " Q"]
    from_end: Int[Tensor, " E"]
    feature: Int[Tensor, " E"]
    value: Float[Tensor, " E"]

    @classmethod
    def of(cls, prompts: Prompts, change: Codes, groups: Sequence[Sequence[int]]) -> _Pairs:
        # List the members of all groups
        change = change.to("cpu")
        members = sorted({(feature, index) for index, group in enumerate(groups) for feature in group})
        for feature, _ in members:
            change.check(feature)
        feature_of_member = torch.tensor([feature for feature, _ in members], dtype=torch.long)
        group_of_member = torch.tensor([index for _, index in members], dtype=torch.long)

        # Find the entries of `change` that each member has
        member, entry = entries_of(torch.bincount(feature_of_member, minlength=change.n_features), change.feature)

        # Sort the entries by pair and token
        by_length = torch.argsort(prompts.lengths, stable=True)
        rank = torch.empty(len(prompts), dtype=torch.long)
        rank[by_length] = torch.arange(len(prompts))
        prompt = prompts.sequence_of_token[change.token[entry]]
        key = rank[prompt] * len(groups) + group_of_member[member]
        order = torch.argsort(key * prompts.n_tokens + change.token[entry], stable=True)
        entry = entry[order]
        key, n_entries = torch.unique_consecutive(key[order], return_counts=True)

        # Count tokens from the end; the first entry of a pair is the farthest from it
        token = change.token[entry]
        from_end = (prompts.lengths[prompts.sequence_of_token] - prompts.position_of_token)[token]
        first = n_entries.cumsum(0) - n_entries
        return cls(
            prompt=by_length[key // len(groups)],
            group=key % len(groups),
            n_changed=from_end[first],
            n_entries=n_entries,
            from_end=from_end,
            feature=change.feature[entry],
            value=change.value[entry],
        )

    def codes(self, pairs: Int[Tensor, " B"], last: int, n_features: int) -> Codes:
        """Return what is added in the `last` slots of a batch of pairs."""
        entry, row = entries_of(self.n_entries, pairs)
        slot = row * last + last - self.from_end[entry]
        return Codes(slot, self.feature[entry], self.value[entry], len(pairs) * last, n_features)


def _can_resume(upward: Upward) -> bool:
    """Return whether blocks above the site run at all, and can continue from a KV cache."""
    site = upward.site
    runs = site.layer < upward.model.n_layers - 1 or site.component != "resid"
    return runs and upward.model.continues_from_cache(site)


def _chunks(upward: Upward, pairs: _Pairs) -> Iterator[Int[Tensor, " q"]]:
    """Cut the pairs into chunks whose prompts' keys and values fit into memory: two vectors a token and block."""
    model, lengths = upward.model, upward.prompts.lengths
    bytes_of_token = 2 * model.n_layers * model.d_model * model.dtype.itemsize
    prompt, prompt_of_pair = torch.unique_consecutive(pairs.prompt, return_inverse=True)
    chunk = (lengths[prompt].cumsum(0) * bytes_of_token) // kv_cache.MAX_BYTES
    for index in torch.unique(chunk):
        yield (chunk[prompt_of_pair] == index).nonzero().squeeze(1)
