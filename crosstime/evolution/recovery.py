"""Does a trained crosscoder find planted features, and does it tell shared ones from specific ones?"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import joint_codes
from crosstime.evolution.latent_scaling import SHARED_ERROR, SHARED_RECONSTRUCTION, scale_latents
from crosstime.evolution.match_features import match_directions
from crosstime.evolution.presence import PRESENT, present
from crosstime.evolution.presence_test import PRESENT_THERE, UNDECIDED, presence_test
from crosstime.training.planted import Planted

DECODER, SCALED, TESTED = "decoder norms", "decoder norms, latent scaling", "test of presence"
"""The three ways to classify features."""
SPECIFIC, SHARED = "specific", "shared"
"""The two classes."""


def recovery(
    planted: Planted,
    crosscoder: CrossCoder,
    *,
    minimum: float = 0.7,
    fraction: float = PRESENT,
    n_tokens: int = 8_192,
    seed: int = 1,
) -> pd.DataFrame:
    """Precision and recall of "shared" and "specific": by decoder norms, with latent scaling, by the test of presence.

    Learned features are matched to planted ones by decoder direction (`match_directions`, on the scale of the
    activations). A feature is specific if it is present at some checkpoints and absent at others, and shared if it is
    present at all. With latent scaling, it also counts as present at a checkpoint where `latent_scaling` finds it
    although its decoder norm is small. The test of presence (`presence_test`) replaces decoder norms by a regression on
    the sampled activations; a feature that it leaves undecided at a checkpoint is of neither class. ::

        recall     share of planted features of the class that match a learned one with the same checkpoints
        precision  share of learned features of the class that fire and match a planted one with the same checkpoints

    A planted feature counts as present where its direction is not zero, however small it is.

    Args:
        planted: the planted problem.
        crosscoder: trained on it.
        minimum: smallest cosine of a match.
        fraction: see `crosstime.evolution.presence.present`.
        n_tokens: number of activations that are drawn to see which features fire, for latent scaling and for the
            test.
        seed: of the activations.

    Returns:
        One row for each way to classify and each class: by, class, planted, learned, precision, recall.

    Examples:
        >>> planted = plant(8, 2, 16, density=1, noise=0)  # doctest: +SKIP
        >>> recovery(planted, train_planted(planted, config)).recall  # doctest: +SKIP
    """
    # Decompose fresh activations
    generator = torch.Generator().manual_seed(seed)
    x = planted.activations(planted.codes(n_tokens, generator), generator)
    decompositions = crosscoder.decompose(x.transpose(0, 1))
    alive = torch.zeros(crosscoder.n_features, dtype=torch.bool)
    alive[joint_codes(decompositions).feature] = True

    # Match the learned features that fire to the planted ones
    directions = torch.stack([decomposition.directions for decomposition in decompositions], 1)
    matches = match_directions(directions * alive.reshape(-1, 1, 1), planted.directions, minimum=minimum)
    partner = torch.full((crosscoder.n_features,), -1)
    partner[matches.feature.tolist()] = torch.tensor(matches.other.tolist(), dtype=torch.long)

    # Presence by decoder norms, by latent scaling, and by the test
    by_norm = present(directions.norm(dim=-1), fraction)
    scaling = scale_latents(crosscoder, decompositions)
    by_reconstruction = scaling.ratio("reconstruction") >= SHARED_RECONSTRUCTION
    by_error = scaling.ratio("error") >= SHARED_ERROR
    answers = presence_test(crosscoder, decompositions).presence.to_numpy().reshape(by_norm.shape)
    by_test = torch.tensor(answers == PRESENT_THERE)
    decided = torch.tensor((answers != UNDECIDED).all(1))

    # Scores of each way; only the test can leave a feature undecided
    rows = []
    by_scaling = by_norm | by_reconstruction | by_error
    ways = ((DECODER, by_norm, alive), (SCALED, by_scaling, alive), (TESTED, by_test, alive & decided))
    for by, presence, counted in ways:
        class_scores = _class_scores(presence, planted.present, partner, counted)
        rows += [{"by": by, "class": name} | scores for name, scores in class_scores.items()]
    return pd.DataFrame(rows)


def _class_scores(
    learned_presence: Bool[Tensor, "F C"],
    planted_presence: Bool[Tensor, "G C"],
    partner: Int[Tensor, " F"],
    counted: Bool[Tensor, " F"],
) -> dict[str, dict[str, float | int]]:
    """Numbers of features, precision and recall of each class; `partner` is the matched planted feature or -1."""
    matched_presence = planted_presence[partner.clamp(min=0)]
    correct = (partner >= 0) & (learned_presence == matched_presence).all(1)
    scores: dict[str, dict[str, float | int]] = {}
    for name in (SPECIFIC, SHARED):
        learned = counted & (learned_presence.all(1) == (name == SHARED))
        planted = planted_presence.all(1) == (name == SHARED)
        hits, n_learned, n_planted = int((correct & learned).sum()), int(learned.sum()), int(planted.sum())
        scores[name] = {
            "planted": n_planted,
            "learned": n_learned,
            "precision": hits / n_learned if n_learned else float("nan"),
            "recall": hits / n_planted if n_planted else float("nan"),
        }
    return scores
