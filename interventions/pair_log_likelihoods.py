"""Log-likelihoods of pairs of sequences, with the tokens that a pair shares from its start run once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interventions.budget import for_each_batch, for_each_run
from interventions.errors import ShapeError
from interventions.forward import logits, run
from interventions.kv_cache import MAX_BYTES, KVCache
from interventions.log_likelihoods import log_likelihoods
from interventions.model import Model
from interventions.prompts import Batch, Sequences
from interventions.reduce_predictions import MAX_LOG_PROBS


@dataclass(frozen=True)
class _Pair:
    """A pair of sequences: what they share from their start, and the rest of each."""

    prefix: tuple[int, ...]
    rests: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, right: Sequence[int], wrong: Sequence[int]) -> _Pair:
        n = sum(1 for _ in takewhile(lambda tokens: tokens[0] == tokens[1], zip(right, wrong, strict=False)))
        return cls(tuple(right[:n]), (tuple(right[n:]), tuple(wrong[n:])))


def pair_log_likelihoods(
    model: Model, right: Sequences, wrong: Sequences
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Compute the log-likelihoods of P right and P wrong sequences after their first tokens, in nats.

    The results are those of `log_likelihoods` up to rounding. The tokens that a pair shares from its start run once:
    the rest of each sequence continues from their keys and values, and both read their first token from the same
    prediction. The last token of a sequence predicts nothing and does not run. A pair of equal sequences is a tie, and
    equal pairs have equal results. Models that cannot continue from a KV cache run every sequence in whole.

    Args:
        model: the model to run.
        right, wrong: the sequences, pair by pair.

    Returns:
        The sums of the right and of the wrong sequences.

    Raises:
        ShapeError: the numbers of right and wrong sequences differ.
        InterventionError: a sequence has a token that the model has no embedding for.

    Examples:
        >>> right, wrong = Sequences(((0, 5, 6),)), Sequences(((0, 5, 7),))
        >>> pair_log_likelihoods(model, right, wrong)  # doctest: +SKIP
        (tensor([-8.1310]), tensor([-9.0262]))
    """
    if len(right) != len(wrong):
        raise ShapeError(f"{len(right)} right sequences need as many wrong ones; got {len(wrong)}.")
    index_of: dict[_Pair, int] = {}
    pairs = [_Pair.of(*ids) for ids in zip(right.ids, wrong.ids, strict=True)]
    index = [index_of.setdefault(pair, len(index_of)) for pair in pairs]

    # Run whole sequences where nothing can be shared
    if not model.continues_from_tokens or not all(pair.prefix for pair in pairs):
        whole = log_likelihoods(model, Sequences((*right.ids, *wrong.ids)))
        return whole[: len(right)], whole[len(right) :]

    # Run the distinct pairs, as many at a time as have room for their keys and values
    for sequences in (right, wrong):
        model.check_tokens(sequences)
    distinct = list(index_of)
    sums = torch.zeros(2, len(distinct), dtype=torch.float64)
    with torch.no_grad():
        for group in _groups(model, distinct):
            sums[:, group] = _scored(model, [distinct[i] for i in group])
    of_right, of_wrong = sums[:, index].unbind()
    return of_right, of_wrong


def _groups(model: Model, pairs: Sequence[_Pair]) -> Iterator[list[int]]:
    """Cut the pairs, in the order of their prefixes' lengths, into groups whose keys and values have room."""
    # They are held as they were written, merged, and repeated for the two rests of a pair
    bytes_per_token = 4 * 2 * model.n_layers * model.d_model * model.dtype.itemsize
    most = max(1, MAX_BYTES // bytes_per_token)
    group: list[int] = []
    for i in sorted(range(len(pairs)), key=lambda i: len(pairs[i].prefix)):
        if group and (len(group) + 1) * len(pairs[i].prefix) > most:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _scored(model: Model, pairs: Sequence[_Pair]) -> Float[Tensor, "2 P"]:
    """The log-likelihoods of both sequences of each pair."""
    prefixes = Sequences(tuple(pair.prefix for pair in pairs))
    sums = torch.zeros(2, len(pairs), dtype=torch.float64)
    caches: list[tuple[Int[Tensor, " B"], DynamicCache]] = []

    def run_prefixes(batch: Batch, budget: int) -> None:
        on_device, cache = batch.to(model.device), DynamicCache()
        end = run(model, on_device, all_positions=True, cache=cache)

        # What both sequences share
        predicts = batch.mask[:, :-1]
        here = _log_probs(model, end[:, :-1][predicts.to(end.device)], batch.input_ids[:, 1:][predicts])
        shared = torch.zeros(len(batch.rows), dtype=torch.float64)
        shared.index_add_(0, predicts.nonzero()[:, 0], here)

        # The first token of each rest, from one prediction
        first = torch.tensor([[rest[0] if rest else 0 for rest in pairs[row].rests] for row in batch.rows.tolist()])
        there = torch.tensor([[bool(rest) for rest in pairs[row].rests] for row in batch.rows.tolist()])
        last = _log_probs(model, end[:, -1], first)
        sums[:, batch.rows] = shared + torch.where(there, last, 0.0).T
        caches.append((batch.rows, cache))

    for_each_batch(prefixes, model.max_tokens, run_prefixes)

    # Continue with the rests that have more tokens
    rests = [(row, side) for row, pair in enumerate(pairs) for side in (0, 1) if len(pair.rests[side]) > 1]
    if rests:
        keys_and_values = KVCache.of(len(pairs), caches)
        caches.clear()
        _add_rests(model, pairs, rests, keys_and_values, sums)
    return sums


def _add_rests(
    model: Model,
    pairs: Sequence[_Pair],
    rests: list[tuple[int, int]],
    keys_and_values: KVCache,
    sums: Float[Tensor, "2 P"],
) -> None:
    """Add the log-likelihoods of the rests after their first tokens to the sums.

    Args:
        model, pairs: as above.
        rests: index of the pair, and of the sequence in it.
        keys_and_values: those of the prefixes.
        sums: receives the results.
    """
    rests = sorted(rests, key=lambda rest: (len(pairs[rest[0]].rests[rest[1]]), len(pairs[rest[0]].prefix)))
    tokens = [pairs[row].rests[side] for row, side in rests]
    totals = torch.zeros(len(rests), dtype=torch.float64)

    def run_rests(part: slice, budget: int) -> None:
        # The prefixes end in one slot, behind which the rests begin; padding follows the shorter ones
        rows = torch.tensor([row for row, _ in rests[part]])
        lengths = torch.tensor([len(pairs[row].prefix) for row, _ in rests[part]])
        n_run, width = len(tokens[part][-1]) - 1, int(lengths.max())
        ids = torch.tensor([rest + (0,) * (n_run + 1 - len(rest)) for rest in tokens[part]])
        runs = torch.arange(n_run) < torch.tensor([len(rest) - 1 for rest in tokens[part]]).unsqueeze(1)
        mask = torch.cat([torch.arange(width) >= width - lengths.unsqueeze(1), runs], 1)
        input_ids = torch.cat([torch.zeros(len(rows), width, dtype=ids.dtype), ids[:, :-1]], 1)
        batch = Batch(rows, input_ids, mask, torch.full_like(input_ids, -1)).to(model.device)

        cache = keys_and_values.of_batch(rows, width, 0)
        end = run(model, batch, all_positions=True, cache=cache, n_slots=n_run)
        here = _log_probs(model, end[runs.to(end.device)], ids[:, 1:][runs])
        totals[part] = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, runs.nonzero()[:, 0], here)

    for_each_run(torch.tensor([len(rest) - 1 for rest in tokens]), model.max_tokens, run_rests)
    for (row, side), total in zip(rests, totals, strict=True):
        sums[side, row] += total


def _log_probs(model: Model, end: Float[Tensor, "N W"], tokens: Int[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
    """Log-probabilities of tokens from the ends of a pass, a few rows of the vocabulary at a time."""
    out = torch.zeros(tokens.shape, dtype=torch.float64)
    chunk = max(1, MAX_LOG_PROBS // model.vocab_size)
    for start in range(0, len(end), chunk):
        rows = slice(start, start + chunk)
        log_probs = logits(model, end[rows]).float().log_softmax(-1)
        asked = tokens[rows].to(end.device)
        out[rows] = log_probs.gather(1, asked.view(len(asked), -1)).view(asked.shape).double().cpu()
    return out
