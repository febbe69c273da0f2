"""How good a crosscoder is: what it explains, and what the model loses when it is spliced in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder, fraction_of_variance_explained
from crosstime.crosscoders.decompose import fitting
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSource, documents, sequences
from crosstime.suites.suite import Suite
from interventions import Decomposition, Model, Sequences, cross_entropy, fetch

MEASURES = (
    "l0", "dead", "alive", "fve", "error", "ce_clean", "ce_spliced", "ce_zero", "ce_delta", "ce_recovered"
)  # fmt: skip
"""What is measured at each checkpoint, in the order of the table; see `evaluate`."""


def evaluate(
    suite: Suite,
    crosscoder: CrossCoder,
    corpus: TextSource | Iterable[str],
    *,
    n_sequences: int = 256,
    sequence_length: int = 64,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Reconstruction and downstream loss at every checkpoint, on text that training did not see.

    Returns:
        One row a checkpoint: revision; l0 (active features a token); dead (features that never fire on this text) and
        alive (share that do); fve (fraction of variance explained, first token of a sequence left out, as in the
        three before and the next); error (``||s_c x_c - s_c x̂_c||²``, mean over tokens: on the scale of training
        predicting zero gives about D); ce_clean, ce_spliced and ce_zero (next-token cross-entropy in nats with the
        model's own activations, with the reconstruction alone in their place, and with zero); ce_delta = ce_spliced -
        ce_clean; ce_recovered = (ce_zero - ce_spliced) / (ce_zero - ce_clean), NaN where zero does no harm.

    Raises:
        CrosscoderError: the suite has not the crosscoder's checkpoints.
        CorpusError: text that cannot be read, or is too short for one sequence.

    Examples:
        >>> evaluate(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.3 and its tables of sparsity and cross-entropy.
    """
    return evaluate_seeds(
        suite, [crosscoder], corpus, n_sequences=n_sequences, sequence_length=sequence_length, compute=compute,
    ).drop(columns="seed")  # fmt: skip


@torch.no_grad()
def evaluate_seeds(
    suite: Suite,
    crosscoders: Sequence[CrossCoder],
    corpus: TextSource | Iterable[str],
    *,
    n_sequences: int = 256,
    sequence_length: int = 64,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """`evaluate` of several crosscoders of the same checkpoints and site, such as one kind with several seeds.

    Everything that is not the crosscoders' own (activations, clean and zero-ablated loss) is computed once.

    Returns:
        The rows of `evaluate` for one crosscoder after the other, with the column seed before them: the seed that a
        crosscoder was trained with, else its place in the list. `over_seeds` averages them.

    Raises:
        CrosscoderError: there is none, or they are of other checkpoints or sites.

    Examples:
        >>> over_seeds(evaluate_seeds(suite, [first, second, third], "held_out.txt.gz"))  # doctest: +SKIP
    """
    if not crosscoders:
        raise CrosscoderError("There is no crosscoder to evaluate.")
    origin = crosscoders[0].origin
    for other in crosscoders[1:]:
        if (other.origin.revisions, other.origin.site) != (origin.revisions, origin.site):
            raise CrosscoderError(
                f"Crosscoders that are compared must be of the same checkpoints and site: one is of "
                f"{', '.join(origin.revisions)} at {origin.site}, another of {', '.join(other.origin.revisions)} at "
                f"{other.origin.site}."
            )
    chosen, site = fitting(suite, crosscoders[0]), origin.site
    lines, _ = documents(corpus)
    rows = islice(sequences(lines, suite.tokenizer, sequence_length), n_sequences)
    text = Sequences([tuple(row.tolist()) for row in rows])
    later = text.position_of_token > 0
    with track("Evaluating the crosscoder", 2 * len(chosen)) as bar:

        def read(_: int, model: Model) -> tuple[Float[Tensor, "T D"], list[float]]:
            activations = fetch(model, text, [site], max_tokens=compute.max_tokens)[site].float()
            edits = (None, {site: torch.zeros_like})
            losses = [cross_entropy(model, text, edit, max_tokens=compute.max_tokens) for edit in edits]
            bar.advance()
            return activations, losses

        activations, losses = zip(*compute.each(chosen, read), strict=True)
        x = torch.stack(activations)
        decomposed = [crosscoder.decompose(x) for crosscoder in crosscoders]

        def splice_in(c: int, model: Model) -> list[float]:
            puts = [(site, one[c].reconstruction) for one in decomposed]
            found = [cross_entropy(model, text, replacement=put, max_tokens=compute.max_tokens) for put in puts]
            bar.advance()
            return found

        spliced = compute.each(chosen, splice_in)
    out = []
    for number, (crosscoder, one) in enumerate(zip(crosscoders, decomposed, strict=True)):
        for c, revision in enumerate(chosen.revisions):
            row = {"seed": crosscoder.origin.training.get("seed", number), "revision": revision}
            row |= _reconstruction(one[c], later, crosscoder.scales[c]) | _loss(*losses[c], spliced[c][number])
            out.append(row)
    return pd.DataFrame(out)[["seed", "revision", *MEASURES]]


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of every measure over seeds, as in CTT's tables.

    Args:
        table: what `evaluate_seeds` gave, or several of such tables one below the other.

    Returns:
        One row a checkpoint: revision, seeds (how many), and for each measure its mean and ``<measure>_deviation``,
        NaN with one seed.

    Examples:
        >>> table = pd.DataFrame({"seed": [1, 2], "revision": "main"} | dict.fromkeys(MEASURES, [1.0, 3.0]))
        >>> over_seeds(table)[["seeds", "l0", "l0_deviation"]].values.tolist()
        [[2.0, 2.0, 1.4142135623730951]]
    """
    groups = table.groupby("revision", sort=False)
    out = pd.DataFrame({"seeds": groups.size()})
    for measure in MEASURES:
        out[measure] = groups[measure].mean()
        out[f"{measure}_deviation"] = groups[measure].std(ddof=1)
    return out.reset_index()


def _reconstruction(one: Decomposition, later: Bool[Tensor, " T"], scale: Float[Tensor, ""]) -> dict[str, float | int]:
    fired = one.codes.feature[later[one.codes.token]]
    alive = len(torch.unique(fired))
    x, reconstruction = one.x[later].unsqueeze(1), one.reconstruction[later].unsqueeze(1)
    return {
        "l0": len(fired) / later.sum().item(),
        "dead": one.codes.n_features - alive,
        "alive": alive / one.codes.n_features,
        "fve": fraction_of_variance_explained(x, reconstruction).item(),
        "error": ((scale * (x - reconstruction)) ** 2).sum(-1).mean().item(),
    }


def _loss(clean: float, zero: float, spliced: float) -> dict[str, float]:
    return {
        "ce_clean": clean,
        "ce_spliced": spliced,
        "ce_zero": zero,
        "ce_delta": spliced - clean,
        "ce_recovered": (zero - spliced) / (zero - clean) if zero > clean else math.nan,
    }
