"""One tokenizer for models whose vocabularies differ by added tokens, as those of a base and a chat model do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OTHER_PARTS = ("padding", "truncation", "added_tokens")
"""Parts of a serialized tokenizer that do not say how ordinary text is split."""
_ADDED_FACTS = ("id", "single_word", "lstrip", "rstrip", "normalized")
"""What an added token must have in common to be split off a text in the same way."""


def shared_tokenizer(tokenizers: Sequence[PreTrainedTokenizerBase]) -> PreTrainedTokenizerBase | int:
    """A tokenizer with the rules and the tokens that several share, or the index of the first whose rules differ.

    Tokenizers may differ by added tokens, such as those of a chat template, and by which tokens begin and end a text.
    The result splits every text into tokens that have the same ids for all: what is an added token of one of them only
    is ordinary text. BOS and EOS are those of the first tokenizer whose own are shared.

    Args:
        tokenizers: at least one.

    Examples:
        >>> base, chat = read_tokenizer("base"), read_tokenizer("chat")  # doctest: +SKIP
        >>> shared_tokenizer([base, chat])("<|im_start|>") == base("<|im_start|>")  # doctest: +SKIP
        True
    """
    # Compare the rules with those of the first; the smallest vocabulary is what all share
    rules = [_rules(tokenizer) for tokenizer in tokenizers]
    smallest = min(rules, key=_vocabulary_size)
    if not all(_extends(other, smallest) for other in rules):
        return next((index for index, other in enumerate(rules) if not _alike(other, rules[0])), rules.index(smallest))

    # Keep the added tokens that all have
    added = [_added(tokenizer) for tokenizer in tokenizers]
    shared = {token for token, facts in added[0].items() if all(own.get(token) == facts for own in added)}
    for tokenizer, own, its_rules in zip(tokenizers, added, rules, strict=True):
        if own.keys() == shared and its_rules == smallest:
            return tokenizer
    if any("backend" not in own for own in rules):
        return _first_other(added)
    return _with_tokens(tokenizers, smallest["backend"], shared)


def _rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What decides how a text without added tokens is split."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        added = tokenizer.get_added_vocab()
        vocabulary = {token: id_ for token, id_ in tokenizer.get_vocab().items() if token not in added}
        return {"class": type(tokenizer).__name__, "vocabulary": vocabulary}
    parts = json.loads(backend.to_str())
    return {"backend": {name: part for name, part in parts.items() if name not in _OTHER_PARTS}}


def _vocabulary_size(rules: dict[str, Any]) -> int:
    return len(rules["backend"]["model"].get("vocab", ())) if "backend" in rules else len(rules["vocabulary"])


def _alike(rules: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one of two rules extends the other."""
    return _extends(rules, other) or _extends(other, rules)


def _extends(rules: dict[str, Any], smaller: dict[str, Any]) -> bool:
    """Whether rules are those of a smaller vocabulary, with tokens that no merge of theirs makes."""
    if rules == smaller:
        return True
    if "backend" not in rules or "backend" not in smaller:
        return False
    own, other = dict(rules["backend"]), dict(smaller["backend"])
    model, other_model = dict(own.pop("model")), dict(other.pop("model"))
    if own != other or model.get("type") != "BPE" or model.get("ignore_merges"):
        return False
    vocabulary, other_vocabulary = model.pop("vocab"), other_model.pop("vocab")
    return model == other_model and other_vocabulary.items() <= vocabulary.items()


def _first_other(facts: Sequence[dict[str, Any]]) -> int:
    """The index of the first that is not equal to that at the start."""
    return next((index for index, other in enumerate(facts) if other != facts[0]), len(facts) - 1)


def _added(tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, Any]]:
    """The added tokens of a tokenizer by their text."""
    return {
        token.content: {"id": id_} | {fact: getattr(token, fact) for fact in _ADDED_FACTS[1:]}
        for id_, token in tokenizer.added_tokens_decoder.items()
    }


def _with_tokens(
    tokenizers: Sequence[PreTrainedTokenizerBase], rules: dict[str, Any], added: set[str]
) -> PreTrainedTokenizerBase:
    """A tokenizer of some rules with some of the added tokens of the first."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    parts = json.loads(tokenizers[0].backend_tokenizer.to_str())
    tokens = [token for token in parts["added_tokens"] if token["content"] in added]
    backend = Tokenizer.from_str(json.dumps(parts | rules | {"added_tokens": tokens}))
    ends = {
        name: next((end for own in tokenizers if (end := getattr(own, name)) in backend.get_vocab()), None)
        for name in ("bos_token", "eos_token")
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **ends)
