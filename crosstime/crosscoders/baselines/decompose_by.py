"""A decomposed task as the features of another dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.crosscoders.dictionary import Dictionary
from interventions import Decomposition


def decompose_by(dictionary: Dictionary, decomposed: DecomposedTask) -> DecomposedTask:
    """Decompose the activations of a decomposed task into the features of another dictionary.

    No model is run. Start tokens stay as they are with both; see `Decomposition.fixed`.

    Args:
        dictionary: of the same checkpoints and site.
        decomposed: the task, as `decompose_task` returned it.

    Raises:
        CrosscoderError: the dictionary is for another number of checkpoints, or another width.

    Examples:
        >>> decompose_by(neurons(crosscoder.origin), decomposed).codes.n_features  # doctest: +SKIP
        64
    """
    patched = None if decomposed.patched is None else _decompose(dictionary, decomposed.patched)
    return replace(decomposed, clean=_decompose(dictionary, decomposed.clean), patched=patched)


def _decompose(dictionary: Dictionary, states: Sequence[Decomposition]) -> tuple[Decomposition, ...]:
    """The activations of the same tokens at every checkpoint, decomposed anew."""
    return tuple(dictionary.decompose(torch.stack([state.x for state in states]), states[0].fixed))
