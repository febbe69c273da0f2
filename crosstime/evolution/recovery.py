"""Does a trained crosscoder find planted features, and does it tell shared ones from specific ones?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import joint_codes
from crosstime.evolution.latent_scaling import SHARED_ERROR, SHARED_RECONSTRUCTION, Scaling, scale_latents
from crosstime.evolution.match_features import match_directions
from crosstime.evolution.presence import PRESENT, present
from crosstime.evolution.presence_test import MINIMUM_SHARE, PRESENT_THERE, presence_test
from crosstime.report.columns import PRESENCE_TEST, UNDECIDED
from crosstime.training.plant import PlantedProblem
from interventions import Decomposition

DECODER, SCALED, TESTED = "decoder norms", "decoder norms, latent scaling", PRESENCE_TEST
"""The three ways to classify features."""
SPECIFIC, SHARED = "specific", "shared"
"""The two classes."""


@dataclass(frozen=True)
class PresenceThresholds:
    """Thresholds of presence, for each way to classify features.

    Attributes:
        fraction: share of the largest decoder norm, see `crosstime.evolution.presence.present`.
        reconstruction, error: ratios of `crosstime.evolution.latent_scaling.latent_scaling`.
        share: smallest share of `crosstime.evolution.presence_test.presence_test`.
    """

    fraction: float = PRESENT
    reconstruction: float = SHARED_RECONSTRUCTION
    error: float = SHARED_ERROR
    share: float = MINIMUM_SHARE


@dataclass(frozen=True, eq=False)
class MatchedFeatures:
    """Learned features with their planted partners, decomposed on fresh activations.

    Attributes:
        crosscoder: the learned features.
        planted_presence: whether each planted feature is there at each checkpoint.
        decompositions: of the fresh activations at each checkpoint.
        norms: norms of the learned directions, on the scale of the activations.
        alive: whether each learned feature fires.
        partner: the matched planted feature of each learned one, or -1.
        scaling: multiples of the learned features that fit the activations best.
    """

    crosscoder: CrossCoder
    planted_presence: Bool[Tensor, "G C"]
    decompositions: Sequence[Decomposition]
    norms: Float[Tensor, "F C"]
    alive: Bool[Tensor, " F"]
    partner: Int[Tensor, " F"]
    scaling: Scaling

    def scores(
        self, thresholds: PresenceThresholds = PresenceThresholds(), *, ways: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Precision and recall with some thresholds, as `recovery` returns them.

        Args:
            thresholds: what counts as present.
            ways: ways to classify; by default all.
        """
        rows = []
        for by in ways or (DECODER, SCALED, TESTED):
            presence, undecided = self._presence(by, thresholds)
            n_undecided = int((self.alive & undecided).sum())
            for name, scores in _class_scores(presence, self.alive & ~undecided, self).items():
                rows.append({"by": by, "class": name} | scores | {"undecided": n_undecided})
        return pd.DataFrame(rows)

    def _presence(self, by: str, thresholds: PresenceThresholds) -> tuple[Bool[Tensor, "F C"], Bool[Tensor, " F"]]:
        """Where each feature is there by one way, and whether that way leaves it undecided: only the test does."""
        if by == TESTED:
            table = presence_test(self.crosscoder, self.decompositions, minimum=thresholds.share)
            answers = table.presence.to_numpy().reshape(self.norms.shape)
            return torch.tensor(answers == PRESENT_THERE), torch.tensor((answers == UNDECIDED).any(1))
        presence = present(self.norms, thresholds.fraction)
        if by == SCALED:
            presence = presence | (self.scaling.ratio("reconstruction") >= thresholds.reconstruction)
            presence = presence | (self.scaling.ratio("error") >= thresholds.error)
        return presence, torch.zeros_like(self.alive)


def match_planted(
    planted: PlantedProblem, crosscoder: CrossCoder, *, minimum: float = 0.7, n_tokens: int = 8_192, seed: int = 1
) -> MatchedFeatures:
    """Match learned features to planted ones, and decompose fresh activations with them; see `recovery`.

    Args:
        planted, crosscoder, minimum, n_tokens, seed: see `recovery`.

    Examples:
        >>> matched = match_planted(planted, crosscoder)  # doctest: +SKIP
        >>> matched.scores(PresenceThresholds(fraction=0.1))  # doctest: +SKIP
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

    norms, scaling = directions.norm(dim=-1), scale_latents(crosscoder, decompositions)
    return MatchedFeatures(crosscoder, planted.present, decompositions, norms, alive, partner, scaling)


def recovery(
    planted: PlantedProblem,
    crosscoder: CrossCoder,
    *,
    minimum: float = 0.7,
    thresholds: PresenceThresholds = PresenceThresholds(),
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
        thresholds: what counts as present. They are chosen on other problems than those that are reported.
        n_tokens: number of activations that are drawn to see which features fire, for latent scaling and for the
            test.
        seed: of the activations.

    Returns:
        One row for each way to classify and each class: by, class, planted, learned, precision, recall, undecided (the
        number of features that fire and are of neither class).

    Examples:
        >>> planted = plant(8, 2, 16, density=1, noise=0)  # doctest: +SKIP
        >>> recovery(planted, train_planted(planted, config)).recall  # doctest: +SKIP
    """
    return match_planted(planted, crosscoder, minimum=minimum, n_tokens=n_tokens, seed=seed).scores(thresholds)


def _class_scores(
    presence: Bool[Tensor, "F C"], counted: Bool[Tensor, " F"], matched: MatchedFeatures
) -> dict[str, dict[str, float | int]]:
    """Numbers of features, precision and recall of each class, by where the learned features are there."""
    matched_presence = matched.planted_presence[matched.partner.clamp(min=0)]
    correct = (matched.partner >= 0) & (presence == matched_presence).all(1)
    scores: dict[str, dict[str, float | int]] = {}
    for name in (SPECIFIC, SHARED):
        learned = counted & (presence.all(1) == (name == SHARED))
        planted = matched.planted_presence.all(1) == (name == SHARED)
        hits, n_learned, n_planted = int((correct & learned).sum()), int(learned.sum()), int(planted.sum())
        scores[name] = {
            "planted": n_planted,
            "learned": n_learned,
            "precision": hits / n_learned if n_learned else float("nan"),
            "recall": hits / n_planted if n_planted else float("nan"),
        }
    return scores
