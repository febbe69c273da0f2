"""The tokenizer of a suite: one for all checkpoints, so that a prompt is the same tokens for each of them.

1. A tokenizer that was named when the suite was opened is taken as it is.
2. Checkpoints of one training have the tokenizer of the first, with which those of all others are compared.
3. Models side by side have the tokens that all of them share (`crosstime.suites.shared_tokenizer`).

It pads on the left, with the EOS token if it has no pad token.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.config_and_tokenizer import read_tokenizer, tokenizer_checkpoint, tokenizer_digest
from crosstime.suites.fingerprint import tokenizer_hash
from crosstime.suites.shared_tokenizer import shared_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def suite_tokenizer(
    suite: str,
    checkpoints: Sequence[Checkpoint],
    source: str | PreTrainedTokenizerBase | None,
    ordered: bool,
    trust_remote_code: bool,
) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a suite, and prepare it for padding on the left.

    Args:
        suite: name of the suite, for errors.
        checkpoints: the checkpoints.
        source: the tokenizer that was named when the suite was opened, or its place; None for that of the checkpoints.
        ordered: whether the checkpoints are of one training, and not models side by side.
        trust_remote_code: whether code of the checkpoints may run.

    Raises:
        SuiteError: a tokenizer is missing or differs (the message names both revisions), or has no EOS token.
    """
    if isinstance(source, str):
        tokenizer = read_tokenizer(tokenizer_checkpoint(source), trust_remote_code=trust_remote_code)
    elif source is not None:
        tokenizer = copy.deepcopy(source)
    elif ordered:
        tokenizer = _tokenizer_of_training(suite, checkpoints, trust_remote_code)
    else:
        tokenizer = _tokenizer_of_models(suite, checkpoints, trust_remote_code)

    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise SuiteError(f"the tokenizer of suite {suite!r} has neither a pad nor an eos token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def _tokenizer_of_training(
    suite: str, checkpoints: Sequence[Checkpoint], trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """The tokenizer of the first checkpoint, compared with all others."""
    first, *later = checkpoints
    tokenizer = read_tokenizer(first, trust_remote_code=trust_remote_code)
    expected, digest = tokenizer_hash(tokenizer), tokenizer_digest(first)
    for checkpoint in later:
        # The same tokenizer.json gives the same ids, whatever class transformers chooses for it
        if digest is not None and tokenizer_digest(checkpoint) == digest:
            continue
        other = read_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
        if tokenizer_hash(other) != expected:
            raise _difference(suite, first.revision, checkpoint.revision)
    return tokenizer


def _tokenizer_of_models(
    suite: str, checkpoints: Sequence[Checkpoint], trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """The tokenizer that models side by side share; one in memory that brings none takes that of the others."""
    # Read them
    tokenizers: dict[str, PreTrainedTokenizerBase] = {}
    for checkpoint in checkpoints:
        if checkpoint.tokenizer is not None:
            tokenizers[checkpoint.revision] = copy.deepcopy(checkpoint.tokenizer)
        elif checkpoint.model is None:
            tokenizers[checkpoint.revision] = read_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    origins = {model.revision: model.model.name_or_path for model in checkpoints if model.model is not None}
    for revision, origin in {} if tokenizers else origins.items():
        if not origin:
            raise SuiteError(f"model {revision!r} is in memory, and its tokenizer is unknown: give tokenizer=...")
        source = replace(tokenizer_checkpoint(origin), revision=revision)
        tokenizers[revision] = read_tokenizer(source, trust_remote_code=trust_remote_code)

    # Find what they share
    shared = shared_tokenizer(list(tokenizers.values()))
    if isinstance(shared, int):
        names = list(tokenizers)
        raise _difference(suite, names[0], names[shared])
    return shared


def _difference(suite: str, first: str, other: str) -> SuiteError:
    return SuiteError(
        f"the tokenizers of revisions {first!r} and {other!r} of suite {suite!r} differ: one suite needs one "
        "tokenizer, given as tokenizer=..."
    )
