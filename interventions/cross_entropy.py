"""The next-token loss of a text, with activations edited or replaced on the way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.budget import for_each_batch
from interventions.errors import InterventionError
from interventions.forward import Edit, logits, resume, run
from interventions.model import Model
from interventions.prompts import Batch, Sequences
from interventions.reductions import next_token_log_probs
from interventions.site import Site


def cross_entropy(
    model: Model,
    sequences: Sequences,
    edits: Mapping[Site, Edit] | Mapping[str, Edit] | None = None,
    *,
    replacement: tuple[Site | str, Float[Tensor, "T D"]] | None = None,
) -> float:
    """Compute the mean next-token cross-entropy over all tokens but each sequence's first, in nats.

    Args:
        model: the model to run.
        sequences: the text, in sequences of which at least one has two tokens.
        edits: for each site to edit, or its text, a function that takes its activation ``B S D`` and returns the
            replacement.
        replacement: a site, and the activations of every token to put there, such as a reconstruction; only the
            model above the site runs.

    Returns:
        The mean over all tokens but the first of each sequence.

    Raises:
        InterventionError: no sequence has two tokens, or both `edits` and `replacement` are given.

    Examples:
        >>> cross_entropy(model, sequences, {site: torch.zeros_like})  # doctest: +SKIP
        >>> cross_entropy(model, sequences, replacement=(site, decomposition.reconstruction))  # doctest: +SKIP
    """
    if edits and replacement is not None:
        raise InterventionError("Cross-entropy takes edits or a replacement, not both.")
    model.check_tokens(sequences)
    losses = torch.zeros(len(sequences), dtype=torch.float64)

    def work(batch: Batch, budget: int) -> None:
        # Run the batch; a server reduces its logits to log-probabilities of the next tokens
        on_device = batch.to(model.device)
        reduce = None if model.remote is None else next_token_log_probs(batch)
        if replacement is None:
            end = run(model, on_device, edits, all_positions=True, reduce=reduce)
        else:
            site, x = replacement
            padded = batch.pad(x).to(model.device, model.dtype)
            end = resume(model, on_device, Site.of(site), padded, all_positions=True, reduce=reduce)

        # Sum the losses of the tokens that have a next token
        predicts = on_device.mask[:, :-1]
        if reduce is not None:
            losses[batch.rows] = torch.where(predicts, -end.double(), 0.0).sum(1)
            return
        of_slot = torch.zeros_like(predicts, dtype=torch.float64)
        of_slot[predicts] = torch.nn.functional.cross_entropy(
            logits(model, end[:, :-1][predicts]).float(), on_device.input_ids[:, 1:][predicts], reduction="none"
        ).double()
        losses[batch.rows] = of_slot.sum(1).cpu()

    with torch.no_grad():
        for_each_batch(sequences, model.max_tokens, work, equal_lengths=model.equal_lengths)
    count = sequences.n_tokens - len(sequences)
    if count == 0:
        raise InterventionError("Cross-entropy needs sequences of at least two tokens.")
    return losses.sum().item() / count
