"""Replace features' activations in a forward pass, running only what the replacement can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.budget import for_each_run
from interventions.codes import Codes, entries_of
from interventions.past import MOST_BYTES, Past
from interventions.prompts import Prompts
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Replaced:
    """The metric of every (prompt, group of features) in which replacing the group changes something.

    Attributes:
        prompt, group: which pair; pairs that are not listed keep the clean metric.
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
    """Run each prompt with each group of features moved by `change`, from the site and the first change on.

    ``x + sum over the group's features i of change[:, i] directions[i]``. Only pairs of a prompt and a
    group with a non-zero change are run, each from the first token that it changes; the keys and values of those
    before it come from one unchanged pass of each prompt. Prompts with as much to run share a batch.

    Args:
        upward: the model above the site, on P prompts.
        x: the activations to change, flat.
        change: what is added to each feature's activation, token by token (-f for zero ablation).
        directions: the features' directions in the model's own scale.
        groups: features that are replaced together, one list a group.
        progress: called with (pairs done, pairs in all).

    Raises:
        FeatureError: a group names a feature that does not exist.
    """
    prompts, pairs = upward.prompts, _Pairs.of(upward.prompts, change, groups)
    out = torch.empty(len(pairs.prompt), dtype=torch.float32)
    directions, done = directions.to(upward.model.device), 0
    for stretch in _stretches(upward, pairs):
        length, changed = prompts.lengths[pairs.prompt[stretch]], pairs.changed[stretch]
        rows = torch.unique(pairs.prompt[stretch])
        rows = rows[torch.argsort(prompts.lengths[rows], stable=True)]
        saves = int(changed.sum() + prompts.lengths[rows].sum()) < int(length.sum())
        past = upward.past(x, rows) if saves and _can_save(upward) else None
        # Of a long past, each slot costs memory, though little work; so pairs with as much to run go together.
        runs = length if past is None else changed
        order = torch.argsort(runs * int(length.max() + 1) + length, stable=True)
        size, stretch = (runs + (length - runs + 7) // 8)[order], stretch[order]

        def work(run: slice, budget: int, stretch: Tensor = stretch, past: Past | None = past) -> None:
            nonlocal done
            some = stretch[run]
            batch = prompts.batch(pairs.prompt[some])
            width = batch.mask.shape[1]
            last = width if past is None else int(pairs.changed[some].max())
            moved = pairs.codes(some, last, len(directions)).to(directions.device)
            put = batch.pad(x)[:, width - last :].to(directions) + moved.decode(directions).view(len(some), last, -1)
            cache = past.cache(batch.rows, width, last) if past is not None and last < width else None
            out[some] = upward(batch, put.to(upward.model.dtype), cache).float().cpu()
            done += len(some)
            if progress is not None:
                progress(done, len(pairs.prompt))

        with torch.no_grad():
            for_each_run(size, upward.max_tokens, work)
    return Replaced(pairs.prompt, pairs.group, out)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Every prompt with every group that changes something in it, in order of the prompts' lengths.

    Attributes:
        prompt, group: which.
        changed: how many tokens there are from the first changed one to the last of the prompt.
        counts: entries of each pair, in the three below.
        from_end, feature, value: which token, counted back from the last (1), which feature, and by how much.
    """

    prompt: Int[Tensor, " Q"]
    group: Int[Tensor, " Q"]
    changed: Int[Tensor, " Q"]
    counts: Int[Tensor, " Q"]
    from_end: Int[Tensor, " E"]
    feature: Int[Tensor, " E"]
    value: Float[Tensor, " E"]

    @classmethod
    def of(cls, prompts: Prompts, change: Codes, groups: Sequence[Sequence[int]]) -> _Pairs:
        change = change.to("cpu")
        members = sorted({(feature, index) for index, group in enumerate(groups) for feature in group})
        for feature, _ in members:
            change.check(feature)
        feature_of_member = torch.tensor([feature for feature, _ in members], dtype=torch.long)
        group_of_member = torch.tensor([index for _, index in members], dtype=torch.long)
        member, entry = entries_of(torch.bincount(feature_of_member, minlength=change.n_features), change.feature)
        rank = torch.empty(len(prompts), dtype=torch.long)
        by_length = torch.argsort(prompts.lengths, stable=True)
        rank[by_length] = torch.arange(len(prompts))
        prompt = prompts.sequence_of_token[change.token[entry]]
        key = rank[prompt] * len(groups) + group_of_member[member]
        order = torch.argsort(key * prompts.n_tokens + change.token[entry], stable=True)
        entry = entry[order]
        key, counts = torch.unique_consecutive(key[order], return_counts=True)
        token = change.token[entry]
        from_end = (prompts.lengths[prompts.sequence_of_token] - prompts.position_of_token)[token]
        # Entries are in order of their tokens: a pair's first one is its farthest from the end.
        first = counts.cumsum(0) - counts
        return cls(
            by_length[key // len(groups)], key % len(groups), from_end[first], counts, from_end, change.feature[entry],
            change.value[entry],
        )  # fmt: skip

    def codes(self, pairs: Int[Tensor, " B"], last: int, n_features: int) -> Codes:
        """What is added in a batch of some pairs, to the `last` slots of each."""
        entry, row = entries_of(self.counts, pairs)
        slot = row * last + last - self.from_end[entry]
        return Codes(slot, self.feature[entry], self.value[entry], len(pairs) * last, n_features)


def _can_save(upward: Upward) -> bool:
    """Whether blocks above the site run at all, and can be given a past."""
    site = upward.site
    runs = site.layer < upward.model.n_layers - 1 or site.component != "resid"
    return runs and upward.model.reads_past


def _stretches(upward: Upward, pairs: _Pairs) -> Iterator[Int[Tensor, " Q"]]:
    """The pairs, in pieces whose prompts' keys and values, at most two vectors a block, may be kept together."""
    model, lengths = upward.model, upward.prompts.lengths
    a_token = 2 * model.n_layers * model.d_model * model.dtype.itemsize
    prompt, of_pair = torch.unique_consecutive(pairs.prompt, return_inverse=True)
    piece = (lengths[prompt].cumsum(0) * a_token) // MOST_BYTES
    for each in torch.unique(piece):
        yield (piece[of_pair] == each).nonzero().squeeze(1)
