"""Which features of a dictionary come back when it is trained again with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.match_features import match_features, refuse_other_origin, unit_decoders
from crosstime.evolution.presence import PRESENT
from crosstime.evolution.seed_agreement import decoder_life_cycles


@torch.no_grad()
def mean_matched_cosine(first: Float[Tensor, "F C D"], second: Float[Tensor, "G _ _"]) -> float:
    """The mean cosine of the decoders of two crosscoders under the best one-to-one assignment of their features.

    ::

        MCC = max over one-to-one assignments a of  mean_i cos(W_i, V_a(i))

    The cosine is that of the C D numbers of a feature's decoder, with its sign, because codes are never negative: the
    opposite direction is another feature. The code that was published with the paper (its two functions ``MCC``) takes
    the cosine with its sign as well, unlike measures of recovery in which the sign of a component is arbitrary and
    absolute values are taken. Of two dictionaries of different sizes, all features of the smaller one are assigned. The
    F x G cosines are in memory, and the assignment takes time of the order of F² G.

    Args:
        first, second: decoder directions of two crosscoders at the same checkpoints.

    Raises:
        CrosscoderError: the numbers of checkpoints or the widths differ, or a decoder is not finite.

    Examples:
        >>> directions = torch.eye(4).reshape(4, 2, 2)
        >>> mean_matched_cosine(directions, 3 * directions.flip(0))
        1.0

    Source: Song et al., arXiv 2505.20254 (MCC by the Hungarian algorithm), and its code,
    github.com/xiangchensong/sae-feature-consistency.
    """
    if first.shape[1:] != second.shape[1:]:
        raise CrosscoderError(
            f"Features of {first.shape[1]} checkpoints and width {first.shape[2]} do not match those of "
            f"{second.shape[1]} and {second.shape[2]}."
        )
    cosines = (unit_decoders(first) @ unit_decoders(second).T).numpy()
    if not torch.from_numpy(cosines).isfinite().all():
        raise CrosscoderError("Decoders with numbers that are not finite cannot be matched.")
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return float(cosines[rows, columns].mean(dtype="float64"))


def pairwise_mcc(crosscoders: Sequence[CrossCoder]) -> pd.DataFrame:
    """Compute the PW-MCC: the mean cosine of the best one-to-one assignment of any two crosscoders, such as two seeds.

    Args:
        crosscoders: at least two, of the same checkpoints and site.

    Returns:
        One row for any two crosscoders: first, second (their indices), mcc (see `mean_matched_cosine`). The mean of
        ``mcc`` is the PW-MCC of all.

    Raises:
        CrosscoderError: fewer than two crosscoders, or crosscoders of different checkpoints or sites.

    Examples:
        >>> pairwise_mcc([seed_124, seed_153, seed_6582]).mcc.mean()  # doctest: +SKIP

    Source: Song et al., arXiv 2505.20254.
    """
    refuse_unfit(crosscoders)
    rows = [
        {"first": i, "second": j, "mcc": mean_matched_cosine(first.directions()[:], second.directions()[:])}
        for (i, first), (j, second) in combinations(enumerate(crosscoders), 2)
    ]
    return pd.DataFrame(rows)


def replication(
    crosscoders: Sequence[CrossCoder],
    labels: Sequence[Sequence[str]] | None = None,
    *,
    minimum: float = 0.7,
    fraction: float = PRESENT,
) -> pd.DataFrame:
    """Count, for each feature of the first crosscoder, its matches in the others, and those with the same label.

    Matches are those of `match_features`, one to one.

    Args:
        crosscoders: at least two, of the same checkpoints and site.
        labels: for each crosscoder one label for each feature, such as its class by RelIE; by default the life cycle of
            its decoder norms (`life_cycles`).
        minimum: smallest cosine of a match.
        fraction: of the maximum norm from which a feature is present, for the default labels.

    Returns:
        One row for each feature of the first crosscoder: feature, others (number of other crosscoders), matches (in how
        many of them it has a match), cosine (mean over its matches, NaN without one), label, same_label (in how many of
        them its match has the same label).

    Raises:
        CrosscoderError: fewer than two crosscoders, crosscoders that do not fit each other, or labels that do not fit
            them.

    Examples:
        >>> table = replication([seed_124, seed_153, seed_6582])  # doctest: +SKIP
        >>> table[table.same_label == table.others]  # doctest: +SKIP
    """
    refuse_unfit(crosscoders)
    if labels is None:
        labels = [decoder_life_cycles(crosscoder, fraction) for crosscoder in crosscoders]
    if [len(names) for names in labels] != [crosscoder.n_features for crosscoder in crosscoders]:
        raise CrosscoderError("Labels are needed for every feature of every crosscoder.")

    # Count the matches of each feature, and those with its label
    first = crosscoders[0]
    matches, same_label, cosines = [0] * first.n_features, [0] * first.n_features, [0.0] * first.n_features
    for other, other_labels in zip(crosscoders[1:], labels[1:], strict=True):
        pairs = match_features(first, other, minimum=minimum)
        for feature, partner, cosine in zip(pairs.feature, pairs.other, pairs.cosine, strict=True):
            matches[feature] += 1
            same_label[feature] += labels[0][feature] == other_labels[partner]
            cosines[feature] += cosine

    means = [total / n if n else float("nan") for total, n in zip(cosines, matches, strict=True)]
    return pd.DataFrame(
        {
            "feature": range(first.n_features),
            "others": len(crosscoders) - 1,
            "matches": matches,
            "cosine": means,
            "label": list(labels[0]),
            "same_label": same_label,
        }
    )


def replication_shares(table: pd.DataFrame) -> pd.DataFrame:
    """The share of features that replicate in at least k of the other crosscoders.

    Args:
        table: what `replication` returns, or some of its rows.

    Returns:
        One row for each k from 1 to the number of other crosscoders: k, share (of features with at least k matches),
        same_label (share of features with at least k matches of the same label).

    Raises:
        CrosscoderError: the table has no row.

    Examples:
        >>> table = pd.DataFrame({"others": 2, "matches": [2, 1, 0, 2], "same_label": [2, 0, 0, 1]})
        >>> replication_shares(table).values.tolist()
        [[1.0, 0.75, 0.5], [2.0, 0.5, 0.25]]
    """
    if table.empty:
        raise CrosscoderError("There are no features whose replication could be counted.")
    rows = [
        {"k": k, "share": float((table.matches >= k).mean()), "same_label": float((table.same_label >= k).mean())}
        for k in range(1, int(table.others.iloc[0]) + 1)
    ]
    return pd.DataFrame(rows)


def refuse_unfit(crosscoders: Sequence[CrossCoder]) -> None:
    """Refuse fewer than two crosscoders, and crosscoders whose features cannot be matched.

    Raises:
        CrosscoderError: there are fewer than two, or they are of different checkpoints or sites.
    """
    if len(crosscoders) < 2:
        raise CrosscoderError(f"Replication needs at least two crosscoders, not {len(crosscoders)}.")
    for other in crosscoders[1:]:
        refuse_other_origin(crosscoders[0], other)
