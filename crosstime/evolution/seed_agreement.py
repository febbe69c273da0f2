"""What crosscoders of several seeds agree on: the features that they have in common, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.life_cycles import LIFE_CYCLES, life_cycle_numbers
from crosstime.evolution.match_features import match_features
from crosstime.evolution.presence import PRESENT, present
from crosstime.features.kappa import Kappa, cohens_kappa
from interventions import Bootstrap


def seed_agreement(
    crosscoders: Sequence[CrossCoder],
    labels: Sequence[Sequence[str]] | None = None,
    *,
    minimum: float = 0.7,
    fraction: float = PRESENT,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> pd.DataFrame:
    """Measure how far crosscoders of several seeds agree: which features they share, and how they label them.

    Args:
        crosscoders: at least two, of the same checkpoints and site.
        labels: for each crosscoder one label for each feature, such as its class by RelIE; by default the life cycle of
            its decoder norms (`life_cycles`).
        minimum: smallest cosine of a match, see `match_features`.
        fraction: of the maximum from which a feature is present, see `present`.
        bootstrap: of kappa's interval over matches.

    Returns:
        One row for any two crosscoders: first, second (their indices), matched (number of pairs), share (of the smaller
        dictionary), cosine (mean over matches), agreement (share of matches with equal labels), kappa, low, high.

    Raises:
        CrosscoderError: fewer than two crosscoders, crosscoders that do not fit each other, or labels that do not fit
            them.

    Examples:
        >>> seed_agreement([seed_124, seed_153, seed_6582])  # doctest: +SKIP
    """
    if len(crosscoders) < 2:
        raise CrosscoderError(f"Agreement needs at least two crosscoders, not {len(crosscoders)}.")
    if labels is None:
        labels = [decoder_life_cycles(crosscoder, fraction) for crosscoder in crosscoders]
    if [len(names) for names in labels] != [crosscoder.n_features for crosscoder in crosscoders]:
        raise CrosscoderError("Labels are needed for every feature of every crosscoder.")

    rows = []
    for (i, first), (j, second) in combinations(enumerate(crosscoders), 2):
        # Match the features, and compare the labels of the matches
        matches = match_features(first, second, minimum=minimum)
        nan = float("nan")
        kappa = Kappa(nan, nan, nan, nan, 0)
        if len(matches):
            first_labels = [labels[i][feature] for feature in matches.feature]
            second_labels = [labels[j][feature] for feature in matches.other]
            kappa = cohens_kappa(first_labels, second_labels, bootstrap=bootstrap)

        # Numbers of the pair
        rows.append(
            {
                "first": i,
                "second": j,
                "matched": len(matches),
                "share": len(matches) / min(first.n_features, second.n_features),
                "cosine": matches.cosine.mean(),
                "agreement": kappa.agreement,
                "kappa": kappa.kappa,
                "low": kappa.low,
                "high": kappa.high,
            }
        )
    return pd.DataFrame(rows)


def decoder_life_cycles(crosscoder: CrossCoder, fraction: float) -> list[str]:
    """The life cycle of each feature by its decoder norms; see `present` for the fraction."""
    numbers = life_cycle_numbers(present(crosscoder.decoder_norms().T, fraction))
    return [LIFE_CYCLES[number] for number in numbers]
