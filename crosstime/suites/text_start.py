"""How texts begin: the start tokens that every document and every sequence of a packed text has first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from crosstime.errors import SuiteError
from user_input.nearest import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_STARTS = ("tokenizer", "none", "bos", "eos")
"""As the tokenizer begins a text, with nothing, with its BOS token, or with its EOS token."""
_PROBE = "a"


def check_text_start(text_start: str) -> None:
    """Refuse a name that is not one of `TEXT_STARTS`.

    Raises:
        SuiteError: names the nearest.

    Examples:
        >>> check_text_start("none")
    """
    if text_start not in TEXT_STARTS:
        raise SuiteError(f"there is no text_start {text_start!r}: {nearest(text_start, TEXT_STARTS)}")


def start_tokens(tokenizer: PreTrainedTokenizerBase, text_start: str = "tokenizer") -> tuple[int, ...]:
    """The ids of the tokens with which a text begins.

    Args:
        tokenizer: a tokenizer of transformers.
        text_start: ``tokenizer``: the special tokens that the tokenizer itself puts before a text (a BOS token for
            Llama or Gemma, none for Pythia, OLMo and BLOOM); ``none``; ``bos`` or ``eos``: this token, once.

    Raises:
        SuiteError: another `text_start`, or the tokenizer has no such token.

    Examples:
        >>> start_tokens(suite.tokenizer, "none")  # doctest: +SKIP
        ()
    """
    check_text_start(text_start)
    if text_start == "none":
        return ()
    if text_start != "tokenizer":
        token = getattr(tokenizer, f"{text_start}_token_id")
        if token is None:
            raise SuiteError(f"the tokenizer has no {text_start.upper()} token: text_start cannot be {text_start!r}")
        return (token,)

    # What stands before the tokens of a text when special tokens are added, and does not without them
    plain = tokenizer(_PROBE, add_special_tokens=False, verbose=False)["input_ids"]
    whole = tokenizer(_PROBE, add_special_tokens=True, verbose=False)["input_ids"]
    n_special = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
    return tuple(whole[:n_special])


def n_start_tokens(ids: Sequence[int], known: Collection[int]) -> int:
    """The number of start tokens at the head of a prompt, whose last token is never counted.

    Examples:
        >>> n_start_tokens((1, 54, 301), {1}), n_start_tokens((54, 1, 301), {1}), n_start_tokens((1,), {1})
        (1, 0, 0)
    """
    return next((n for n, token in enumerate(ids[:-1]) if token not in known), len(ids) - 1)
