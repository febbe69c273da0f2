"""Similarity of a site's activations between checkpoints: cosine, Pearson correlation and linear CKA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.read_text import read_text
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Model, Site, fetch


def similarity(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str],
    sample: TextSample = TextSample(n_sequences=64),
    *,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Compare the activations of a site between all pairs of checkpoints, on the same tokens of text.

    - ``cosine``: mean over tokens of <x, y> / (||x|| ||y||).
    - ``pearson``: the same after the mean over the D dimensions is subtracted from each token's activation.
    - ``cka``: linear centred kernel alignment, ||X^T Y||² / (||X^T X|| ||Y^T Y||), where the mean over tokens is
      subtracted from each dimension. It is invariant under rotations of either space, while cosine and Pearson
      correlation compare the axes of activation space.

    The first token of each sequence, whose norm is of another magnitude, is left out. The activations of all
    checkpoints, C T D numbers, are held in memory; models are opened one at a time.

    Args:
        suite: the checkpoints.
        site: where activations are read, such as ``Site(8)`` or ``"resid.8"``.
        corpus: a text source as for `crosstime.train`, or documents.
        sample: how much of the text is read: T = n_sequences (sequence_length - 1).
        compute: how the checkpoints are run.

    Returns:
        One row for each ordered pair of checkpoints, including each checkpoint with itself: revision, other, cosine,
        pearson, cka.

    Raises:
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        SiteError: the models have no such site.
        CorpusError: the text does not fill one sequence.

    Source: Crosscoding Through Time (arXiv 2509.05291), section 4 (cosine, Pearson correlation); Kornblith et al. 2019
    (arXiv 1905.00414) for CKA.

    Examples:
        >>> similarity(suite, Site(1), "corpus.txt.gz")  # doctest: +SKIP
    """
    # Check the checkpoints, and read the text
    compute.verify(suite)
    site = Site.of(site).resolve(suite.n_layers)
    text = read_text(suite, corpus, sample)
    is_later = text.position_of_token > 0

    # Read the activations of every checkpoint
    with track("Reading activations", len(suite), "checkpoints") as bar:

        def read(index: int, model: Model) -> Float[Tensor, "T D"]:
            bar.note(suite.revisions[index])
            activations = fetch(model, text, [site])[site]
            bar.advance()
            return activations[is_later].float()

        activations = compute.each(suite, read)
    return similarity_table(dict(zip(suite.revisions, activations, strict=True)))


def similarity_table(activations: Mapping[str, Float[Tensor, "T D"]]) -> pd.DataFrame:
    """The table of `similarity`, from activations that have already been read.

    Args:
        activations: activations of the same tokens, by checkpoint.

    Examples:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> round(float(similarity_table({"step0": x, "main": 3 * x}).cosine.min()), 6)
        1.0
    """
    revisions = list(activations)
    measures: dict[tuple[int, int], dict[str, float]] = {}
    for first, second in combinations_with_replacement(range(len(revisions)), 2):
        x, y = activations[revisions[first]], activations[revisions[second]]
        values = {"cosine": mean_cosine(x, y), "pearson": mean_pearson(x, y), "cka": linear_cka(x, y)}
        measures[first, second] = measures[second, first] = values
    rows = [
        {"revision": revisions[first], "other": revisions[second], **measures[first, second]}
        for first, second in sorted(measures)
    ]
    return pd.DataFrame(rows)


def mean_cosine(x: Float[Tensor, "T D"], y: Float[Tensor, "T D"]) -> float:
    """Mean over tokens of the cosine between two activations; a vector of zeros has cosine 0 with every other.

    Examples:
        >>> mean_cosine(torch.eye(2), torch.eye(2).flip(0))
        0.0
    """
    return torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=1).mean().item()


def mean_pearson(x: Float[Tensor, "T D"], y: Float[Tensor, "T D"]) -> float:
    """Mean over tokens of the correlation between two activations across their dimensions.

    Examples:
        >>> round(mean_pearson(torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 9.0]])), 6)
        1.0
    """
    x, y = x.double(), y.double()
    return mean_cosine(x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True))


def linear_cka(x: Float[Tensor, "T D"], y: Float[Tensor, "T E"]) -> float:
    """Linear centred kernel alignment of two sets of activations of the same tokens, from 0 to 1.

    It is NaN if one of them is the same for every token.

    Examples:
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
        >>> round(linear_cka(x, 5 * x.flip(1) + 7), 6)
        1.0
    """
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    within = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    between = torch.linalg.norm(x.T @ y) ** 2
    return (between / within).item() if within > 0 else float("nan")
