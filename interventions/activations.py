"""Fetch activations and score prompts, batch by batch under a token budget."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interventions.budget import MAX_TOKENS as MAX_TOKENS
from interventions.budget import for_each_batch
from interventions.errors import InterventionError
from interventions.forward import Edit, Then, answer_logits, logits, read, resume, run
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric, Metric, metric_named
from interventions.model import Model
from interventions.prompts import Batch, Prompts, Sequences
from interventions.site import Site


def fetch(
    model: Model,
    sequences: Sequences,
    sites: Iterable[Site],
    *,
    positions: str | Iterable[tuple[int, int]] = "all",
    device: torch.device | str = "cpu",
) -> dict[Site, Float[Tensor, "T D"]]:
    """Activations at each site, flat and without padding, from one pass a batch.

    The model stops at the last site that is wanted.

    Args:
        model, sequences: what is run.
        sites: which activations.
        positions: ``all`` tokens, the ``last`` of each sequence, or a span (first, end) for each.
        device: where the result is wanted.

    Raises:
        SiteError: the model has no such site.
        InterventionError: an activation is NaN or infinite; names the model, site and sequence.

    Examples:
        >>> x = fetch(model, Sequences(((5, 6, 7), (8,))), [Site(1)])[Site(1)]  # doctest: +SKIP
        >>> x.shape  # doctest: +SKIP
        torch.Size([4, 64])
    """
    sites = list(sites)
    model.check_tokens(sequences)
    out = {site: torch.zeros(sequences.n_tokens, model.d_model, dtype=model.dtype, device=device) for site in sites}
    kept = sequences.at(positions if isinstance(positions, str) else list(positions))

    def work(batch: Batch, budget: int) -> None:
        wanted = batch.pad(kept.float().unsqueeze(1)).squeeze(-1).bool().to(model.device)
        found = read(model, batch.to(model.device), sites, kept=wanted)
        for site, flat in out.items():
            batch.unpad(found[site.resolve(model.n_layers)], flat)

    for_each_batch(sequences, model.max_tokens, work)
    for site, flat in out.items():
        _refuse_nan(flat, sequences, model, site)
    if kept.all():
        return out
    return {site: flat[kept.to(flat.device)] for site, flat in out.items()}


def score(
    model: Model,
    prompts: Prompts,
    metric: AnyMetric = LOGIT_DIFFERENCE,
    *,
    edits: dict[Site, Edit] | None = None,
) -> Float[Tensor, " P"]:
    """The metric of every prompt, optionally with sites edited on the way.

    With the default metric a prompt is answered right where the result is negative.

    Examples:
        >>> accuracy = (score(model, prompts) < 0).float().mean()  # doctest: +SKIP
    """
    metric = metric_named(metric)
    model.check_tokens(prompts)
    out = torch.empty(len(prompts), dtype=torch.float32)

    def work(batch: Batch, budget: int) -> None:
        found = scored(model, prompts, batch.rows, metric, partial(run, model, batch.to(model.device), edits))
        out[batch.rows] = found.float().cpu()

    with torch.no_grad():
        for_each_batch(prompts, model.max_tokens, work)
    return out


def scored(
    model: Model,
    prompts: Prompts,
    rows: Int[Tensor, " B"],
    metric: Metric,
    forward: Callable[..., Tensor],
) -> Float[Tensor, " B"]:
    """The metric of prompts `rows` after a pass, computed where the model is: a server sends nothing else back."""
    if model.remote is None:
        return read_out(model, forward(), prompts, rows, metric)
    return metric.check(forward(then=asked(prompts, rows, metric)), len(rows))


def asked(prompts: Prompts, rows: Int[Tensor, " B"], metric: Metric) -> Then:
    """The metric of prompts `rows` as a function of logits ``B V`` that can travel: a lambda of tensors."""
    right, wrong = prompts.answers(rows)
    if metric.from_answers is None:
        from_vocabulary = inspect.unwrap(metric.from_vocabulary)
        return lambda rows: from_vocabulary(rows.float(), right.to(rows.device), wrong.to(rows.device))
    from_answers, both = inspect.unwrap(metric.from_answers), torch.stack([right, wrong], 1)
    return lambda rows: from_answers(*rows.gather(1, both.to(rows.device)).float().unbind(1))


def of_next_tokens(batch: Batch) -> Then:
    """The log-probability of each next token, ``B S-1``, as a function of logits ``B S V`` that can travel."""
    following = batch.input_ids[:, 1:].unsqueeze(-1).clone()
    return lambda rows: (
        rows[:, :-1].gather(2, following.to(rows.device)).squeeze(-1).float() - rows[:, :-1].float().logsumexp(-1)
    )


def read_out(
    model: Model, end: Float[Tensor, "B W"], prompts: Prompts, rows: Int[Tensor, " B"], metric: Metric
) -> Float[Tensor, " B"]:
    """The metric of prompts `rows` from the end of a pass, with as few logits as the metric needs."""
    right, wrong = (answer.to(end.device) for answer in prompts.answers(rows))
    if metric.from_answers is None:
        return metric(logits(model, end).float(), right, wrong)
    both = (answer_logits(model, end, answer).float() for answer in (right, wrong))
    return metric.check(metric.from_answers(*both), len(rows))


def cross_entropy(
    model: Model,
    sequences: Sequences,
    edits: dict[Site, Edit] | None = None,
    *,
    replacement: tuple[Site, Float[Tensor, "T D"]] | None = None,
) -> float:
    """Mean next-token cross-entropy over all tokens but each sequence's first, in nats.

    Args:
        model: whose loss it is.
        sequences: text, of at least two tokens a sequence.
        edits: sites that are edited on the way.
        replacement: a site and activations of every token to put there, such as a reconstruction; only the
            model above the site runs.

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
        on_device = batch.to(model.device)
        then = None if model.remote is None else of_next_tokens(batch)
        if replacement is None:
            end = run(model, on_device, edits, all_positions=True, then=then)
        else:
            site, x = replacement
            padded = batch.pad(x).to(model.device, model.dtype)
            end = resume(model, on_device, site, padded, all_positions=True, then=then)
        predicted = on_device.mask[:, :-1]
        if then is not None:
            losses[batch.rows] = torch.where(predicted, -end.double(), 0.0).sum(1)
            return
        each = torch.zeros_like(predicted, dtype=torch.float64)
        each[predicted] = torch.nn.functional.cross_entropy(
            logits(model, end[:, :-1][predicted]).float(), on_device.input_ids[:, 1:][predicted], reduction="none"
        ).double()
        losses[batch.rows] = each.sum(1).cpu()

    with torch.no_grad():
        for_each_batch(sequences, model.max_tokens, work)
    count = sequences.n_tokens - len(sequences)
    if count == 0:
        raise InterventionError("Cross-entropy needs sequences of at least two tokens.")
    return losses.sum().item() / count


def _refuse_nan(x: Tensor, sequences: Sequences, model: Model, site: Site) -> None:
    bad = (~x.isfinite().all(1)).nonzero()
    if len(bad):
        token = int(bad[0])
        raise InterventionError(
            f"{model.name} has NaN or infinite activations at {site}, first in sequence "
            f"{int(sequences.sequence_of_token[token])} at position {int(sequences.position_of_token[token])}."
        )
