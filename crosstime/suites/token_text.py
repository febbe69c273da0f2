"""The text of tokens, also of those of byte-level tokenizers that end within a character."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes in place of bytes that are no whole character."""


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a token, or its number in angle brackets if it is only part of a character.

    Examples:
        >>> token_text(suite.tokenizer, 262)  # doctest: +SKIP
        ' the'
    """
    text = str(tokenizer.decode([token]))
    return f"<{token}>" if _BROKEN in text else text


def readable_parts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Iterator[tuple[int, str, int]]:
    """Yield the parts of a text in tokens that are whole characters: index of the first token, text, number of tokens.

    A part is one token, unless it ends within a character, as those of byte-level tokenizers do in scripts other than
    Latin. A token that is in no whole character is shown by its id.

    Examples:
        >>> list(readable_parts(suite.tokenizer, [262, 9106]))  # doctest: +SKIP
        [(0, ' the', 1), (1, ' author', 1)]
    """
    start = 0
    while start < len(ids):
        # Add tokens until their bytes are whole characters
        for end in range(start + 1, len(ids) + 1):
            text = str(tokenizer.decode(list(ids[start:end])))
            if _BROKEN not in text:
                break
        else:
            end, text = start + 1, f"<{ids[start]}>"
        yield start, text, end - start
        start = end
