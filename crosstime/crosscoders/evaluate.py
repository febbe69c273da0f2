"""How good a crosscoder is: how much it reconstructs, and what the model loses when it reads the reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.crosscoders.reconstruction_sums import RECONSTRUCTION, ReconstructionSums
from crosstime.crosscoders.training_setting import trained_checkpoints, trained_start
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.read_text import read_text
from crosstime.suites.resident_checkpoints import ResidentCheckpoints
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.suites.token_norms import token_norms
from interventions import Decomposition, Model, cross_entropy, fetch

LOSS = ("ce_clean", "ce_spliced", "ce_zero", "ce_delta", "ce_recovered")
MEASURES = RECONSTRUCTION + LOSS
"""What is measured at each checkpoint, in the order of the table's columns; see `evaluate`."""


def evaluate(
    suite: Suite,
    crosscoder: CrosscoderSource,
    corpus: TextSource | Iterable[str],
    *,
    sample: TextSample = TextSample(n_sequences=256),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Measure reconstruction and next-token loss at every checkpoint, on text that training did not see.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: what to evaluate: a crosscoder, or its path or repository.
        corpus: text as `train` takes it, of which the first sequences are read.
        sample: how much of it is read.
        compute: where and how the checkpoints run.

    Returns:
        One row for each checkpoint. The first eight measures leave out the first token of every sequence.

        - revision: the checkpoint.
        - l0: active features per token.
        - dead: number of features that never fire on this text; alive: share of those that do.
        - fve: fraction of variance explained.
        - fve_without_outliers: the same without the tokens whose norm is beyond 10 times the median at this checkpoint.
        - outliers: number of these tokens, which have most of the variance where there are any.
        - top_norm_share: share of the squared norm that the largest .1 % of all tokens have.
        - error: ``||s_c x_c - s_c x̂_c||²``, mean over tokens. On the scale of training, predicting zero gives about D.
        - ce_clean: next-token cross-entropy in nats with the model's own activations.
        - ce_spliced, ce_zero: the same with the reconstruction in their place, and with zero in their place.
        - ce_delta: ce_spliced - ce_clean.
        - ce_recovered: (ce_zero - ce_spliced) / (ce_zero - ce_clean); NaN where zero does not increase the loss.

    Raises:
        CrosscoderError: the suite does not have the crosscoder's checkpoints.
        CorpusError: the text cannot be read, or is too short for one sequence.

    Examples:
        >>> evaluate(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.3 and its tables of sparsity and cross-entropy.
    """
    crosscoder = as_crosscoder(crosscoder)
    return evaluate_seeds(suite, [crosscoder], corpus, sample=sample, compute=compute).drop(columns="seed")


@torch.no_grad()
def evaluate_seeds(
    suite: Suite,
    crosscoders: Sequence[CrossCoder],
    corpus: TextSource | Iterable[str],
    *,
    sample: TextSample = TextSample(n_sequences=256),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """`evaluate` several crosscoders of the same checkpoints and site, such as one kind trained with several seeds.

    The activations and the losses without a crosscoder are computed once for all of them.

    Args:
        suite, corpus, sample, compute: as for `evaluate`.
        crosscoders: what to evaluate.

    Returns:
        The rows of `evaluate`, crosscoder after crosscoder, with a column seed in front: the seed that a crosscoder
        was trained with, or its index in the list if that is unknown. `over_seeds` averages them.

    Raises:
        CrosscoderError: the list is empty, or the crosscoders differ in checkpoints or site.

    Examples:
        >>> over_seeds(evaluate_seeds(suite, [first, second, third], "held_out.txt.gz"))  # doctest: +SKIP
    """
    _check_comparable(crosscoders)
    checkpoints, site = trained_checkpoints(suite, crosscoders[0]), crosscoders[0].origin.site
    text = read_text(suite, corpus, sample, start=trained_start(suite, crosscoders[0]))

    # Activations, reconstructions and codes are in memory beside the checkpoints, which are needed twice
    reserved = 4 * 4 * len(checkpoints) * text.n_tokens * suite.d_model
    with (
        ResidentCheckpoints(compute, checkpoints, reserved=reserved) as opened,
        track("Evaluating the crosscoder", 2 * len(checkpoints), "passes") as bar,
    ):
        # Read the activations and the losses that do not depend on the crosscoder
        def read(_: int, model: Model) -> tuple[Float[Tensor, "T D"], float, float]:
            activations = fetch(model, text, [site])[site].float()
            clean = cross_entropy(model, text, None)
            zero = cross_entropy(model, text, {site: torch.zeros_like})
            bar.advance()
            return activations, clean, zero

        activations, clean, zero = zip(*opened.each(read), strict=True)

        # Decompose them with every crosscoder
        x = torch.stack(activations)
        decompositions = [crosscoder.decompose(x) for crosscoder in crosscoders]

        # Measure the loss with each reconstruction in place of the activations
        def splice(c: int, model: Model) -> list[float]:
            losses = [
                cross_entropy(model, text, replacement=(site, of_crosscoder[c].reconstruction))
                for of_crosscoder in decompositions
            ]
            bar.advance()
            return losses

        spliced = opened.each(splice)

    # One row for each crosscoder and checkpoint
    token_mask = text.position_of_token > 0
    rows = []
    for index, crosscoder in enumerate(crosscoders):
        for c, revision in enumerate(checkpoints.revisions):
            row = {"seed": crosscoder.origin.training.get("seed", index), "revision": revision}
            row |= _reconstruction(decompositions[index][c], token_mask, crosscoder.scales[c])
            row |= _loss(clean[c], zero[c], spliced[c][index])
            rows.append(row)
    return pd.DataFrame(rows)[["seed", "revision", *MEASURES]]


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of every measure over seeds, as in CTT's tables.

    Args:
        table: what `evaluate_seeds` returned, or several such tables concatenated.

    Returns:
        One row for each checkpoint: revision, seeds (their number), and for each measure its mean and
        ``<measure>_deviation``, which is NaN with one seed.

    Examples:
        >>> table = pd.DataFrame({"seed": [1, 2], "revision": "main"} | dict.fromkeys(MEASURES, [1.0, 3.0]))
        >>> over_seeds(table)[["seeds", "l0", "l0_deviation"]].values.tolist()
        [[2.0, 2.0, 1.4142135623730951]]
    """
    groups = table.groupby("revision", sort=False)
    means = pd.DataFrame({"seeds": groups.size()})
    for measure in MEASURES:
        means[measure] = groups[measure].mean()
        means[f"{measure}_deviation"] = groups[measure].std(ddof=1)
    return means.reset_index()


def _check_comparable(crosscoders: Sequence[CrossCoder]) -> None:
    """Refuse crosscoders that cannot share one reading of the text."""
    if not crosscoders:
        raise CrosscoderError("There is no crosscoder to evaluate.")
    origin = crosscoders[0].origin
    for crosscoder in crosscoders[1:]:
        if (crosscoder.origin.revisions, crosscoder.origin.site) != (origin.revisions, origin.site):
            raise CrosscoderError(
                f"Crosscoders that are compared must be of the same checkpoints and site: one is of "
                f"{', '.join(origin.revisions)} at {origin.site}, another of "
                f"{', '.join(crosscoder.origin.revisions)} at {crosscoder.origin.site}."
            )


def _reconstruction(
    decomposition: Decomposition, token_mask: Bool[Tensor, " T"], scale: Float[Tensor, ""]
) -> dict[str, float | int]:
    """Measures of reconstruction at one checkpoint, of the tokens of a mask."""
    codes = decomposition.codes
    x, reconstruction = decomposition.x[token_mask], decomposition.reconstruction[token_mask]
    sums = ReconstructionSums(token_norms(x), codes.n_features)
    sums.add(x, reconstruction, codes.feature[token_mask[codes.token]])
    return sums.measures(float(scale))


def _loss(clean: float, zero: float, spliced: float) -> dict[str, float]:
    return {
        "ce_clean": clean,
        "ce_spliced": spliced,
        "ce_zero": zero,
        "ce_delta": spliced - clean,
        "ce_recovered": (zero - spliced) / (zero - clean) if zero > clean else math.nan,
    }
