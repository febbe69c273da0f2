"""What kind of text a feature responds to: a token, the token before, a repetition, or a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.crosscoders.training_setting import trained_start
from crosstime.errors import CorpusError
from crosstime.features.activation_statistics import explained_by, mean_activation
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Sequences

KINDS = ("token", "previous token", "induction", "context", "mixed", "silent")
THRESHOLD = 0.5


def feature_kinds(
    suite: Suite,
    crosscoder: CrossCoder,
    natural: DecomposedText,
    *,
    threshold: float = THRESHOLD,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Score every feature as a previous-token, token, induction and context-sensitive feature.

    Two more sets are read, of as many sequences as the natural text has. In *random* sequences every token is drawn
    independently, from as many different tokens of the text as a sequence is long. *Repeated* sequences ``r r`` come
    with controls ``r' r``, in which r' and r have no token in common. ::

        current_token   share of the variance explained by the token itself, on random sequences
        previous_token  share explained by the token before, on random sequences, where the two are independent
        induction       (a - b) / (a + b), with a and b the mean activation in the second half of ``r r`` and of
                        ``r' r``: the same tokens at the same positions, seen before or not
        context         1 - share explained by the token itself, on natural text

    The shares are those of `explained_by`, clipped to [0, 1]. A score is NaN where the feature does not fire on the
    sequences it is measured on.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features.
        natural: text, as `decompose_text` returns it.
        threshold: score from which a feature is of a kind. Of several kinds, induction takes precedence, then previous
            token, token, context.
        seed: of the random sequences.
        compute: where and how the checkpoints run.

    Returns:
        One row for each feature: feature, previous_token, current_token, induction, context, kind (one of `KINDS`).

    Raises:
        CorpusError: the text has fewer than four different tokens, or sequences of fewer than four tokens.
        CrosscoderError: the crosscoder does not fit the suite.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> feature_kinds(suite, crosscoder, text).kind.value_counts()  # doctest: +SKIP

    Source: EoC (arXiv 2509.17196) for the kinds; Olsson et al. 2022 (arXiv 2209.11895) for repeated random sequences.
    """
    # Leave room for the start tokens, with which these sequences begin as those of the training did
    start = trained_start(suite, crosscoder)
    n_sequences, length = len(natural.text), int(natural.text.lengths.max()) - len(start)
    if length < 4:
        raise CorpusError(f"kinds of features need sequences of at least 4 tokens, not {length}")

    # Draw random sequences, and repeated ones with their controls
    generator = torch.Generator().manual_seed(seed)
    vocabulary = _vocabulary(natural.text, start, length, generator)
    random_ids = vocabulary[torch.randint(len(vocabulary), (n_sequences, length), generator=generator)]
    half = len(vocabulary) // 2
    permutations = [torch.randperm(len(vocabulary), generator=generator) for _ in range(n_sequences)]
    shuffled = vocabulary[torch.stack(permutations)]
    repeated_half, unrelated_half = shuffled[:, :half], shuffled[:, half : 2 * half]
    repetitions = torch.cat([repeated_half, repeated_half], 1)
    controls = torch.cat([unrelated_half, repeated_half], 1)
    repeated_ids = torch.cat([repetitions, controls])

    # Read them at every checkpoint
    random, repeated = (
        decompose_text(suite, crosscoder, Sequences([[*start, *row] for row in ids.tolist()]), compute=compute)
        for ids in (random_ids, repeated_ids)
    )

    # Score the features, and name their kinds
    scores = {
        "previous_token": explained_by(random.codes, random.previous).clamp(0, 1),
        "current_token": explained_by(random.codes, random.tokens).clamp(0, 1),
        "induction": _induction_score(repeated, n_sequences, len(start) + half),
        "context": (1 - explained_by(natural.codes, natural.tokens)).clamp(0, 1),
    }
    silent = torch.stack([mean_activation(text.codes) == 0 for text in (natural, random, repeated)]).all(0)
    return pd.DataFrame(
        {
            "feature": np.arange(crosscoder.n_features),
            **{name: values.numpy() for name, values in scores.items()},
            "kind": _kinds(scores, silent, threshold),
        }
    )


def _vocabulary(text: Sequences, start: Sequence[int], most: int, generator: torch.Generator) -> Int[Tensor, " V"]:
    """At most `most` different tokens of a text, in random order; no start tokens."""
    tokens = torch.unique(text.tokens)
    tokens = tokens[~torch.isin(tokens, torch.tensor(start, dtype=tokens.dtype))]
    if len(tokens) < 4:
        raise CorpusError(f"the text has {len(tokens)} different tokens; random sequences need at least 4")
    return tokens[torch.randperm(len(tokens), generator=generator)[:most]]


def _induction_score(repeated: DecomposedText, n_pairs: int, second: int) -> Float[Tensor, " F"]:
    """``(a - b) / (a + b)`` of the mean activations in the second halves of repetitions and of their controls."""
    second_half = (repeated.text.position_of_token >= second)[repeated.token_mask]
    is_repetition = (repeated.text.sequence_of_token < n_pairs)[repeated.token_mask]
    repetition, control = (
        mean_activation(repeated.codes.rows((second_half & selected).nonzero().squeeze(1)))
        for selected in (is_repetition, ~is_repetition)
    )
    total = repetition + control
    return torch.where(total > 0, (repetition - control) / total, torch.nan)


def _kinds(scores: Mapping[str, Tensor], silent: Tensor, threshold: float) -> np.ndarray:
    """Name the kind of each feature; a kind that is assigned later takes precedence."""
    kinds = np.full(len(silent), "mixed", dtype=object)
    names = {
        "context": "context",
        "current_token": "token",
        "previous_token": "previous token",
        "induction": "induction",
    }
    for score, kind in names.items():
        kinds[(scores[score] >= threshold).numpy()] = kind
    kinds[silent.numpy()] = "silent"
    return kinds
