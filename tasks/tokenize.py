"""Tokenization of minimal pairs, in chunks, until the quotas and the limit of a task are met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tasks.answer_tokens import PairTokens, Sentence, answer_tokens, with_patch
from tasks.minimal_pair import MinimalPair
from tasks.quotas import RemainingQuotas

CHUNK = 256
"""Pairs that are tokenized in one call of the tokenizer."""


def tokenize_pairs(
    pairs: Sequence[MinimalPair],
    tokenizer: Any,
    order: Sequence[int],
    quotas: RemainingQuotas,
    *,
    rule: str,
    start: int | None = None,
    patched: bool = False,
    limit: int | None = None,
) -> tuple[dict[int, PairTokens], Counter[str]]:
    """Tokenize pairs in a given order until enough of them are kept.

    Args:
        pairs: All pairs of a task.
        tokenizer: A fast tokenizer of transformers.
        order: Indices of `pairs`, in the order in which they are tried.
        quotas: The quotas of the task; the pairs that are kept are counted there.
        rule: One of `tasks.answer_tokens.RULES`.
        start: Id of the token at which every sentence begins; None leaves that to the tokenizer.
        patched: Whether every pair has a patch prompt.
        limit: The largest number of pairs that are kept.

    Returns:
        The tokens of the pairs that are kept, by index, and the number of pairs that were rejected, by reason. A pair
        for which the quotas have no room is not counted as rejected.
    """
    accepted: dict[int, PairTokens] = {}
    rejected: Counter[str] = Counter()
    for index, tokens in _tokens_of_pairs(pairs, tokenizer, order, quotas, rule, start, patched):
        if not quotas.allow(pairs[index]):
            continue
        if isinstance(tokens, str):
            rejected[tokens] += 1
            continue
        accepted[index] = tokens
        quotas.use(pairs[index])
        if len(accepted) == limit:
            break
    return accepted, rejected


def _tokens_of_pairs(
    pairs: Sequence[MinimalPair],
    tokenizer: Any,
    order: Sequence[int],
    quotas: RemainingQuotas,
    rule: str,
    start: int | None,
    patched: bool,
) -> Iterator[tuple[int, PairTokens | str]]:
    """Yield the index of each pair with its tokens, or with the reason why it has none."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    for first in range(0, len(order), CHUNK):
        # Tokenize all sentences of a chunk in one call
        chunk = [index for index in order[first : first + CHUNK] if quotas.allow(pairs[index])]
        texts = [text for index in chunk for text in _sentences(pairs[index], patched)]
        if not texts:
            continue
        encoded = _encode(tokenizer, texts, start)

        # Find prompt and answers in the two or four sentences of each pair
        for index in chunk:
            sentences = list(islice(encoded, 4 if patched else 2))
            tokens = answer_tokens(sentences[0], sentences[1], rule, unknown, pairs[index].ctt_count)
            if patched and isinstance(tokens, PairTokens):
                patch = answer_tokens(sentences[2], sentences[3], "first-difference", unknown)
                tokens = with_patch(tokens, patch)
            yield index, tokens


def _sentences(pair: MinimalPair, patched: bool) -> tuple[str, ...]:
    """The sentences of a pair, those of its patch prompt last."""
    if patched and pair.patch_right is not None and pair.patch_wrong is not None:
        return (pair.right, pair.wrong, pair.patch_right, pair.patch_wrong)
    return (pair.right, pair.wrong)


def _encode(tokenizer: Any, texts: list[str], start: int | None) -> Iterator[Sentence]:
    """Tokenize whole sentences with the tokenizer's special tokens, and put `start` first where it is missing."""
    encoding: Mapping[str, Any] = tokenizer(
        texts,
        add_special_tokens=True,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    columns = (encoding["input_ids"], encoding["offset_mapping"], encoding["special_tokens_mask"])
    for text, ids, offsets, special in zip(texts, *columns, strict=True):
        if start is not None and (not ids or ids[0] != start):
            ids, offsets, special = [start, *ids], [(0, 0), *offsets], [1, *special]
        yield Sentence(text, ids, offsets, special)
