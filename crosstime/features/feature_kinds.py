"""What kind of thing a feature fires on: a token, the token before, a repetition, a context, a language."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.effects.relie import SPECIFIC, relative
from crosstime.errors import CorpusError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Codes, Sequences

KINDS = ("token", "previous token", "induction", "context", "mixed", "silent")
THRESHOLD = 0.5


def explained_by(codes: Codes, group: Int[Tensor, " T"]) -> Float[Tensor, " F"]:
    """Share of each feature's variance over tokens that a grouping of the tokens explains, corrected for small groups.

    With N tokens in G groups::

        1 - ( SS_within / (N - G) ) / ( SS_total / (N - 1) )

    is 0 on average for a feature that does not know the groups, and 1 for one that is constant in each. Chance can
    make it negative. NaN for a feature that is constant over all tokens, or if every token is a group of its own.

    Args:
        codes: of T tokens.
        group: number of each token's group.

    Examples:
        >>> codes = Codes.from_dense(torch.tensor([[1.0], [1.0], [0.0], [0.0]]))
        >>> explained_by(codes, torch.tensor([7, 7, 3, 3])).item()
        1.0

    Source: the adjusted coefficient of determination of a one-way analysis of variance (Kelley's epsilon squared).
    """
    _, number, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    n, n_groups = codes.n_tokens, len(sizes)
    value = codes.value.double()
    zeros = torch.zeros(codes.n_features, dtype=torch.float64)
    mean_part = zeros.index_add(0, codes.feature, value) ** 2 / max(1, n)
    total = zeros.index_add(0, codes.feature, value**2) - mean_part
    place, inverse = torch.unique(codes.feature * n_groups + number[codes.token], return_inverse=True)
    sums = torch.zeros(len(place), dtype=torch.float64).index_add(0, inverse, value)
    between = zeros.index_add(0, place // n_groups, sums**2 / sizes[place % n_groups]) - mean_part
    if n <= n_groups:
        return torch.full_like(total, torch.nan)
    unexplained = ((total - between) / (n - n_groups)) / (total / (n - 1))
    return torch.where(total > 1e-12 * mean_part.clamp(min=1e-30), 1 - unexplained, torch.nan)


def mean_activation(codes: Codes) -> Float[Tensor, " F"]:
    """Mean of each feature's activation over all tokens, in double precision."""
    sums = torch.zeros(codes.n_features, dtype=torch.float64).index_add(0, codes.feature, codes.value.double())
    return sums / max(1, codes.n_tokens)


def feature_kinds(
    suite: Suite,
    crosscoder: CrossCoder,
    natural: DecomposedText,
    *,
    threshold: float = THRESHOLD,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Score every feature as a previous-token, token, induction and context-sensitive one.

    Beside natural text two sets of as many sequences are read: random ones, whose tokens are drawn independently from
    as many different tokens of the text as a sequence has; and repeated ones ``r r`` next to controls ``r' r``, in
    which r' has no token of r. ::

        current_token   share of the variance explained by the token itself, on random sequences
        previous_token  the same by the token before it, on random sequences, where the two are independent
        induction       (a - b) / (a + b), a and b mean activation in the second halves of ``r r`` and ``r' r``:
                        the same tokens at the same positions, seen before or not
        context         1 - share explained by the token itself, on natural text

    Shares are `explained_by`'s, cut off at 0 and 1. NaN where the feature does not fire on those sequences.

    Args:
        suite, crosscoder: as for `attribute`.
        natural: text, as `decompose_text` gives it.
        threshold: score from which a feature is of a kind; of several, induction goes first, then previous token,
            token, context.
        seed: of the random sequences.
        compute: how the checkpoints are run.

    Returns:
        One row a feature: feature, previous_token, current_token, induction, context, kind (one of `KINDS`).

    Raises:
        CorpusError: fewer than four different tokens in the text, or sequences of fewer than 4 tokens.
        CrosscoderError: the crosscoder does not fit the suite.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> feature_kinds(suite, crosscoder, text).kind.value_counts()  # doctest: +SKIP

    Source: EoC (arXiv 2509.17196) for the kinds; Olsson et al. 2022 (arXiv 2209.11895) for repeated random sequences.
    """
    n_sequences, length = len(natural.text), int(natural.text.lengths.max())
    if length < 4:
        raise CorpusError(f"kinds of features need sequences of at least 4 tokens, not {length}")
    generator = torch.Generator().manual_seed(seed)
    types = _types(natural.text, length, generator)
    drawn = types[torch.randint(len(types), (n_sequences, length), generator=generator)]
    half = len(types) // 2
    orders = torch.stack([types[torch.randperm(len(types), generator=generator)] for _ in range(n_sequences)])
    seen, unseen = orders[:, :half], orders[:, half : 2 * half]
    pairs = torch.cat([torch.cat([seen, seen], 1), torch.cat([unseen, seen], 1)])
    random, repeated = (
        decompose_text(suite, crosscoder, Sequences(ids.tolist()), compute=compute) for ids in (drawn, pairs)
    )
    scores = {
        "previous_token": explained_by(random.codes, random.previous).clamp(0, 1),
        "current_token": explained_by(random.codes, random.tokens).clamp(0, 1),
        "induction": _induction(repeated, n_sequences, half),
        "context": (1 - explained_by(natural.codes, natural.tokens)).clamp(0, 1),
    }
    silent = torch.stack([mean_activation(each.codes) == 0 for each in (natural, random, repeated)]).all(0)
    return pd.DataFrame(
        {
            "feature": np.arange(crosscoder.n_features),
            **{name: values.numpy() for name, values in scores.items()},
            "kind": _kinds(scores, silent, threshold),
        }
    )


def language_shares(codes: Mapping[str, Codes], *, specific: float = SPECIFIC) -> pd.DataFrame:
    """Where among languages each feature fires: its mean activation a token in one over the sum over all of them.

    Args:
        codes: of text of each language, by the language's name (``decompose_text(...).codes``).
        specific: share above which a feature is specific to a language.

    Returns:
        One row for each feature and language: feature, language, share (NaN if it never fires), specific.

    Raises:
        CorpusError: fewer than two languages, or codes of different crosscoders.

    Examples:
        >>> english, french = (Codes.from_dense(torch.tensor([[number]])) for number in (3.0, 1.0))
        >>> language_shares({"en": english, "fr": french}).share.tolist()
        [0.75, 0.25]

    Source: CTT (arXiv 2509.05291), on multilingual models.
    """
    sizes = {each.n_features for each in codes.values()}
    if len(codes) < 2 or len(sizes) > 1:
        raise CorpusError(
            f"language specificity needs codes of at least two languages by one crosscoder, not {len(codes)} languages "
            f"and dictionaries of {', '.join(map(str, sorted(sizes))) or 'no'} features"
        )
    shares = relative(torch.stack([mean_activation(each) for each in codes.values()], 1))
    return pd.DataFrame(
        {
            "feature": np.repeat(np.arange(len(shares)), len(codes)),
            "language": np.tile(list(codes), len(shares)),
            "share": shares.flatten().numpy(),
            "specific": (shares > specific).flatten().numpy(),
        }
    )


def _types(text: Sequences, most: int, generator: torch.Generator) -> Int[Tensor, " V"]:
    different = torch.unique(text.tokens)
    if len(different) < 4:
        raise CorpusError(f"the text has {len(different)} different tokens; random sequences need at least 4")
    return different[torch.randperm(len(different), generator=generator)[:most]]


def _induction(repeated: DecomposedText, n_pairs: int, half: int) -> Float[Tensor, " F"]:
    second = (repeated.text.position_of_token >= half)[repeated.token_mask]
    seen = (repeated.text.sequence_of_token < n_pairs)[repeated.token_mask]
    again, anew = (
        mean_activation(repeated.codes.rows((second & which).nonzero().squeeze(1))) for which in (seen, ~seen)
    )
    return torch.where(again + anew > 0, (again - anew) / (again + anew), torch.nan)


def _kinds(scores: Mapping[str, Tensor], silent: Tensor, threshold: float) -> np.ndarray:
    kinds = np.full(len(silent), "mixed", dtype=object)
    # The later ones overrule the earlier.
    for name, kind in (
        ("context", "context"), ("current_token", "token"), ("previous_token", "previous token"),
        ("induction", "induction"),
    ):  # fmt: skip
        kinds[(scores[name] >= threshold).numpy()] = kind
    kinds[silent.numpy()] = "silent"
    return kinds
