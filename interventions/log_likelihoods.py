"""Log-likelihoods of whole sequences."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.forward import run
from interventions.model import Model
from interventions.prompts import Batch, Sequences
from interventions.reduce_predictions import reduce_predictions
from interventions.reductions import next_token_log_probs


def log_likelihoods(model: Model, sequences: Sequences) -> Float[Tensor, " P"]:
    """Compute the summed log-likelihood of every sequence after its first token, in nats.

    ``sum_t log p(x_t | x_<t)`` for t from the second token on. To score whole sentences, begin the sequences with BOS
    or EOS. A sequence of one token has log-likelihood 0. Sequences of the same tokens are run once, so that they have
    exactly the same log-likelihood however they would be batched.

    Args:
        model: the model to run.
        sequences: the P token sequences.

    Returns:
        One sum for each sequence.

    Raises:
        InterventionError: a sequence has a token that the model has no embedding for.

    Examples:
        >>> log_likelihoods(model, Sequences(((0, 5, 6), (0, 7))))  # doctest: +SKIP
        tensor([-8.1310, -5.0262])
    """
    distinct, index = _distinct(sequences)
    return _log_likelihoods(model, distinct)[index]


def _distinct(sequences: Sequences) -> tuple[Sequences, Int[Tensor, " P"]]:
    """The sequences without repetitions, in the order of their first occurrence, and the index of each among them.

    The rounding of a sum depends on the shape of its batch, so the same sequence in two batches would differ in the
    last digits, and a pair of equal sentences would not be a tie.
    """
    index_of: dict[tuple[int, ...], int] = {}
    index = [index_of.setdefault(tuple(row), len(index_of)) for row in sequences.ids]
    return Sequences(tuple(index_of)), torch.tensor(index)


def _log_likelihoods(model: Model, sequences: Sequences) -> Float[Tensor, " P"]:
    """Compute the log-likelihoods of sequences that differ from each other."""
    if model.remote is not None:
        return _log_likelihoods_on_server(model, sequences)

    def of_token(log_probs: Float[Tensor, "N V"], tokens: Int[Tensor, " N"]) -> Float[Tensor, "N 1"]:
        return log_probs.gather(1, sequences.tokens[tokens].to(log_probs.device).unsqueeze(1))

    log_probs = reduce_predictions(model, sequences, of_token, 1).squeeze(1)
    # Only the missing predictions become zero; a NaN that the model computes remains one
    log_probs = torch.where(sequences.position_of_token == 0, 0.0, log_probs.double())
    sums = torch.zeros(len(sequences), dtype=torch.float64)
    return sums.index_add_(0, sequences.sequence_of_token, log_probs)


@torch.no_grad()
def _log_likelihoods_on_server(model: Model, sequences: Sequences) -> Float[Tensor, " P"]:
    """Compute the same for a model on a server, which sends one number for each token."""
    model.check_tokens(sequences)
    sums = torch.zeros(len(sequences), dtype=torch.float64)

    def work(batch: Batch, budget: int) -> None:
        if batch.mask.shape[1] > 1:
            on_device = batch.to(model.device)
            log_probs = run(model, on_device, all_positions=True, reduce=next_token_log_probs(batch))
            sums[batch.rows] = torch.where(batch.mask[:, :-1], log_probs.double().cpu(), 0.0).sum(1)

    for_each_batch(sequences, model.max_tokens, work, equal_lengths=model.equal_lengths)
    return sums
