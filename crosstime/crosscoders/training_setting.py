"""With which checkpoints, and after which start of a text, a crosscoder was trained, in terms of a suite."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from crosstime.crosscoders.dictionary import Dictionary
from crosstime.errors import CrosscoderError
from crosstime.suites.suite import Suite
from crosstime.suites.text_start import n_start_tokens, start_tokens
from interventions import Sequences


def trained_checkpoints(suite: Suite, crosscoder: Dictionary) -> Suite:
    """The suite of the checkpoints that the crosscoder was trained on, in its order.

    Raises:
        CrosscoderError: the suite lacks a checkpoint, its activations have another width, or the crosscoder was trained
            on rows that are no activations.
    """
    origin = crosscoder.origin
    if origin.rows is not None:
        raise CrosscoderError(
            f"This crosscoder was trained on rows of {origin.rows}, which are no activations, so that it cannot be "
            "applied to those of a model: take one that was trained on a text."
        )
    missing = [revision for revision in origin.revisions if revision not in suite.revisions]
    if missing:
        raise CrosscoderError(
            f"This crosscoder was trained on {', '.join(origin.revisions)} of suite {origin.suite!r}, but suite "
            f"{suite.name!r} has no {', '.join(missing)}; it has {', '.join(suite.revisions)}."
        )
    checkpoints = suite.select(origin.revisions)
    if checkpoints.d_model != origin.d_model:
        raise CrosscoderError(
            f"This crosscoder is for activations of width {origin.d_model}, but those of suite {suite.name!r} have "
            f"{checkpoints.d_model}."
        )
    return checkpoints


def trained_start(suite: Suite, crosscoder: Dictionary) -> tuple[int, ...]:
    """Ids of the tokens with which text begins where a crosscoder is measured: those of the text of its training.

    Raises:
        CrosscoderError: the suite was opened with a `text_start` that gives others.
    """
    trained = crosscoder.origin.text_start
    if suite.text_start != "tokenizer" and suite.start_tokens != trained:
        raise CrosscoderError(
            f"Documents of this crosscoder's training began with {_tokens(trained, suite)}, but text_start "
            f"{suite.text_start!r} gives {_tokens(suite.start_tokens, suite)}: leave it out, or train another one."
        )
    return trained


def _tokens(ids: Sequence[int], suite: Suite) -> str:
    """Start tokens as a message shows them."""
    return " ".join(suite.tokenizer.convert_ids_to_tokens(list(ids))) or "no start token"


def start_of_prompts(
    texts: Sequence[Sequences], suite: Suite, crosscoder: Dictionary
) -> list[Bool[Tensor, " T"] | None]:
    """The start tokens of prompts, which effects must not change; None for a text that has none.

    The first token of a sequence is left out of training, so that the crosscoder knows nothing of it. Start tokens are
    those that the tokenizer puts before a text, a BOS token of its own, and those of the training text. A warning says
    where prompts begin with a token that the training text did not begin with.
    """
    # Find them
    tokenizer, trained = suite.tokenizer, crosscoder.origin.text_start
    known = {*start_tokens(tokenizer), *trained}
    if tokenizer.bos_token_id != tokenizer.eos_token_id:
        known.add(tokenizer.bos_token_id)
    masks: list[Bool[Tensor, " T"] | None] = []
    for text in texts:
        counts = torch.tensor([n_start_tokens(ids, known) for ids in text.ids])
        mask = text.position_of_token < counts[text.sequence_of_token]
        masks.append(mask if mask.any() else None)

    # Compare them with those of the training
    if masks[0] is not None:
        first = set(texts[0].tokens[masks[0]].tolist())
        if unseen := sorted(first - set(trained)):
            warnings.warn(
                f"prompts begin with {_tokens(unseen, suite)}, but the documents that the crosscoder was trained on "
                f"began with {_tokens(trained, suite)}: after this token, its features may be others",
                RuntimeWarning,
                stacklevel=4,
            )
    return masks
