"""The start token: the token that a model reads before a prompt or a whole sentence."""

from __future__ import annotations

from typing import Any

from tasks.errors import TaskError, TokenizerError
from user_input.nearest import nearest

STARTS = ("bos", "eos", "bos-or-eos")


def start_token(tokenizer: Any, which: str = "bos-or-eos") -> int:
    """The id of the tokenizer's BOS or EOS token.

    Args:
        tokenizer: An object with `bos_token_id` and `eos_token_id`, which are None if there is no such token.
        which: ``"bos"``, ``"eos"``, or ``"bos-or-eos"``: BOS, or EOS if there is no BOS, as in lm-evaluation-harness.

    Raises:
        TaskError: Another value of `which`.
        TokenizerError: The tokenizer has no such token.

    Examples:
        >>> from types import SimpleNamespace
        >>> start_token(SimpleNamespace(bos_token_id=None, eos_token_id=2))
        2
    """
    if which not in STARTS:
        raise TaskError(f"there is no start token {which!r}: {nearest(which, STARTS)}")
    for name in which.split("-or-"):
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None:
            return token
    lacks = {"bos": "no BOS token", "eos": "no EOS token"}.get(which, "neither a BOS nor an EOS token")
    raise TokenizerError(f"{type(tokenizer).__name__} has {lacks} at which a text can begin: set one")
