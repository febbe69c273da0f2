"""Next-token predictions at every position, reduced batch by batch, because all of them would not fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.forward import logits, run
from interventions.model import Model
from interventions.prompts import Batch, Sequences

MAX_LOG_PROBS = 1 << 24
"""Upper bound on the log-probabilities, rows times vocabulary, that are held at a time."""

Reduce = Callable[[Tensor, Tensor], Tensor]
"""A function of log-probabilities ``N V`` and the flat indices ``N`` of the tokens that they predict, to ``N K``."""


def reduce_predictions(model: Model, sequences: Sequences, reduce: Reduce, columns: int) -> Float[Tensor, "T K"]:
    """Apply `reduce` to the prediction of every token, from one forward pass for each batch.

    Row t belongs to flat token t, whose prediction is made at the token before it. The first token of a sequence has
    no prediction, and its row is NaN. A model on a server sends all its logits, T V numbers, because `reduce` runs
    here.

    Args:
        model: the model to run.
        sequences: the token sequences.
        reduce: called with log-probabilities ``N V`` on the model's device and the flat indices of the tokens that
            they predict; returns ``N K``. It is called again for the same tokens if a batch did not fit into memory.
        columns: K.

    Returns:
        One row for each token; NaN for the first token of a sequence.

    Examples:
        >>> def entropy(log_probs, tokens):
        ...     return -(log_probs.exp() * log_probs).sum(1, keepdim=True)
        >>> reduce_predictions(model, text, entropy, 1).nanmean()  # doctest: +SKIP
    """
    model.check_tokens(sequences)
    out = torch.full((sequences.n_tokens, columns), torch.nan)
    chunk = max(1, MAX_LOG_PROBS // model.vocab_size)

    def work(batch: Batch, budget: int) -> None:
        on_device = batch.to(model.device)
        predicts = on_device.mask[:, :-1]
        if not predicts.any():
            return
        end = run(model, on_device, all_positions=True)[:, :-1][predicts]
        predicted = batch.flat[:, 1:][predicts.cpu()]
        for start in range(0, len(end), chunk):
            tokens = predicted[start : start + chunk]
            log_probs = logits(model, end[start : start + chunk]).float().log_softmax(-1)
            out[tokens] = reduce(log_probs, tokens).float().cpu()

    with torch.no_grad():
        for_each_batch(sequences, model.max_tokens, work, equal_lengths=model.equal_lengths)
    return out
