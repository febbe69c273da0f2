"""Next-token predictions at every position: reduced where they are made, since together they would not fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.activations import of_next_tokens
from interventions.budget import for_each_batch
from interventions.forward import logits, run
from interventions.model import Model
from interventions.prompts import Batch, Sequences

AT_ONCE = 1 << 24
"""Log-probabilities, rows times vocabulary, that are held at a time."""

Reduce = Callable[[Tensor, Tensor], Tensor]
"""From log-probabilities ``N V`` and the flat tokens ``N`` that they predict to ``N K`` numbers."""


def reduce_predictions(model: Model, sequences: Sequences, reduce: Reduce, columns: int) -> Float[Tensor, "T K"]:
    """What `reduce` makes of the prediction of every token, from one forward pass a batch.

    A model on a server sends all its logits, T V numbers, for `reduce` stays here.

    Row t belongs to flat token t: the prediction is the one made at the token before it. The first token of a
    sequence has none, and its row is NaN.

    Args:
        model, sequences: what is run.
        reduce: called with log-probabilities ``N V`` on the model's device and the flat tokens that they
            predict; gives ``N K``. It is called again for the same tokens when memory ran out.
        columns: K.

    Examples:
        >>> def entropy(log_probs, tokens):
        ...     return -(log_probs.exp() * log_probs).sum(1, keepdim=True)
        >>> reduce_predictions(model, text, entropy, 1).nanmean()  # doctest: +SKIP
    """
    model.check_tokens(sequences)
    out = torch.full((sequences.n_tokens, columns), torch.nan)
    piece = max(1, AT_ONCE // model.vocab_size)

    def work(batch: Batch, budget: int) -> None:
        on_device = batch.to(model.device)
        predicts = on_device.mask[:, :-1]
        if not predicts.any():
            return
        end = run(model, on_device, all_positions=True)[:, :-1][predicts]
        predicted = batch.flat[:, 1:][predicts.cpu()]
        for start in range(0, len(end), piece):
            tokens = predicted[start : start + piece]
            log_probs = logits(model, end[start : start + piece]).float().log_softmax(-1)
            out[tokens] = reduce(log_probs, tokens).float().cpu()

    with torch.no_grad():
        for_each_batch(sequences, model.max_tokens, work)
    return out


def log_likelihoods(model: Model, sequences: Sequences) -> Float[Tensor, " P"]:
    """Summed log-likelihood of every sequence after its first token, in nats.

    ``sum_t log p(x_t | x_<t)`` for t from the second token on: give sequences that begin with BOS, or EOS, to
    score whole sentences. A sequence of one token has 0.

    Raises:
        InterventionError: a token that the model has no embedding for.

    Examples:
        >>> log_likelihoods(model, Sequences(((0, 5, 6), (0, 7))))  # doctest: +SKIP
        tensor([-8.1310, -5.0262])
    """
    if model.remote is not None:
        return _from_afar(model, sequences)

    def of_token(log_probs: Float[Tensor, "N V"], tokens: Int[Tensor, " N"]) -> Float[Tensor, "N 1"]:
        return log_probs.gather(1, sequences.tokens[tokens].to(log_probs.device).unsqueeze(1))

    found = reduce_predictions(model, sequences, of_token, 1).squeeze(1)
    # Only the missing predictions become zero: a NaN that the model makes stays one.
    found = torch.where(sequences.position_of_token == 0, 0.0, found.double())
    sums = torch.zeros(len(sequences), dtype=torch.float64)
    return sums.index_add_(0, sequences.sequence_of_token, found)


@torch.no_grad()
def _from_afar(model: Model, sequences: Sequences) -> Float[Tensor, " P"]:
    """The same of a model on a server, which sends one number a token."""
    model.check_tokens(sequences)
    sums = torch.zeros(len(sequences), dtype=torch.float64)

    def work(batch: Batch, budget: int) -> None:
        if batch.mask.shape[1] > 1:
            found = run(model, batch.to(model.device), all_positions=True, then=of_next_tokens(batch))
            sums[batch.rows] = torch.where(batch.mask[:, :-1], found.double().cpu(), 0.0).sum(1)

    for_each_batch(sequences, model.max_tokens, work)
    return sums
