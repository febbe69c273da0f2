"""How much a site's activations change between checkpoints: cosine, Pearson correlation and linear CKA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement, islice

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSource, documents, sequences
from crosstime.suites.suite import Suite
from interventions import Model, Sequences, Site, fetch

MEASURES = ("cosine", "pearson", "cka")


def similarity(
    suite: Suite,
    site: Site,
    corpus: TextSource | Iterable[str],
    *,
    n_sequences: int = 64,
    sequence_length: int = 64,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Likeness of the site's activations between all pairs of checkpoints, on the same tokens of text.

    ``cosine``: mean over tokens of <x, y> / (||x|| ||y||). ``pearson``: the same with each token's mean over the D
    dimensions taken off. Both compare the axes of activation space. ``cka``: linear centred kernel alignment,
    ||X^T Y||² / (||X^T X|| ||Y^T Y||) with the mean over tokens taken off each dimension, which a rotation of
    either space leaves as it is. The first token of each sequence, whose norm is of another size, is left out.

    The activations of all checkpoints, C T D numbers, are held in memory; models are opened one at a time.

    Args:
        suite, site: what is compared.
        corpus: as for `crosstime.train`.
        n_sequences, sequence_length: how much of it: T = n_sequences (sequence_length - 1).
        compute: how the checkpoints are run.

    Returns:
        One row for each ordered pair of checkpoints, a checkpoint with itself included: revision, other, cosine,
        pearson, cka.

    Raises:
        SiteError: the models have no such site.
        CorpusError: the text does not fill one sequence, sequences are shorter than 2 tokens, or none is asked for.

    Source: CTT (arXiv 2509.05291), section 4 (cosine, Pearson); Kornblith et al. 2019 (arXiv 1905.00414) for CKA.

    Examples:
        >>> similarity(suite, Site(1), "corpus.txt.gz")  # doctest: +SKIP
    """
    if sequence_length < 2:
        raise CorpusError(f"sequences need at least 2 tokens, not {sequence_length}: the first of each is left out")
    if n_sequences < 1:
        raise CorpusError(f"at least one sequence must be read, not {n_sequences}")
    resolved = site.resolve(suite.n_layers)
    lines, _ = documents(corpus)
    rows = islice(sequences(lines, suite.tokenizer, sequence_length), n_sequences)
    text = Sequences([tuple(row.tolist()) for row in rows])
    later = text.position_of_token > 0
    with track("Reading activations", len(suite)) as bar:

        def read(c: int, model: Model) -> Tensor:
            bar.note(suite.revisions[c])
            activations = fetch(model, text, [resolved])[resolved]
            bar.advance()
            return activations[later].float()

        found = compute.each(suite, read)
    return likeness(dict(zip(suite.revisions, found, strict=True)))


def likeness(activations: Mapping[str, Float[Tensor, "T D"]]) -> pd.DataFrame:
    """The table that `similarity` gives, of activations of the same tokens that are there already.

    Args:
        activations: by checkpoint.

    Examples:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> round(likeness({"step0": x, "main": 3 * x}).cosine.min(), 6)
        1.0
    """
    names, found = list(activations), list(activations.values())
    values: dict[tuple[int, int], dict[str, float]] = {}
    for first, second in combinations_with_replacement(range(len(names)), 2):
        x, y = found[first], found[second]
        measured = {"cosine": mean_cosine(x, y), "pearson": mean_pearson(x, y), "cka": linear_cka(x, y)}
        values[first, second] = values[second, first] = measured
    return pd.DataFrame(
        {"revision": names[first], "other": names[second], **values[first, second]} for first, second in sorted(values)
    )


def mean_cosine(x: Float[Tensor, "T D"], y: Float[Tensor, "T D"]) -> float:
    """Mean over tokens of the cosine between two activations; a zero vector counts as 0.

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
    return mean_cosine(*(each.double() - each.double().mean(1, keepdim=True) for each in (x, y)))


def linear_cka(x: Float[Tensor, "T D"], y: Float[Tensor, "T E"]) -> float:
    """Linear centred kernel alignment of two sets of activations of the same tokens, from 0 to 1.

    NaN where one of them is the same for every token.

    Examples:
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
        >>> round(linear_cka(x, 5 * x.flip(1) + 7), 6)
        1.0
    """
    x, y = (each.double() - each.double().mean(0) for each in (x, y))
    within = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    between = torch.linalg.norm(x.T @ y) ** 2
    return (between / within).item() if within > 0 else float("nan")
