"""Did a trained crosscoder find what was planted, and does it say rightly what is shared and what is specific?"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.latent_scaling import SHARED_ERROR, SHARED_RECONSTRUCTION, scale_latents
from crosstime.evolution.life_cycles import PRESENT, present
from crosstime.evolution.match_features import match_directions
from crosstime.training.planted import Planted

DECODER, SCALED = "decoder norms", "decoder norms, latent scaling"
SPECIFIC, SHARED = "specific", "shared"


def recovery(
    planted: Planted,
    crosscoder: CrossCoder,
    *,
    minimum: float = 0.7,
    fraction: float = PRESENT,
    n_tokens: int = 8_192,
    seed: int = 1,
) -> pd.DataFrame:
    """Precision and recall of "shared" and "specific", by decoder norms alone and with latent scaling.

    Learned features are matched to planted ones by decoder direction (`match_directions`, on the scale of the
    activations). A feature is specific where it is present at some checkpoints and absent at others, shared where it
    is present at all. With latent scaling, a checkpoint at which `latent_scaling` finds the feature although its
    decoder norm is small counts as one where it is present. ::

        recall     planted features of the class that are matched by a learned one with the same checkpoints
        precision  learned features of the class that fire, matched to a planted one with the same checkpoints

    A planted feature counts as present where its direction is not zero, however weak.

    Args:
        planted: the problem.
        crosscoder: trained on it.
        minimum: smallest cosine of a match.
        fraction: see `crosstime.evolution.life_cycles.present`.
        n_tokens, seed: activations that are drawn to see which features fire, and for latent scaling.

    Returns:
        One row for each way to classify and class: by, class, planted, learned, precision, recall.

    Examples:
        >>> planted = plant(8, 2, 16, density=1, noise=0)  # doctest: +SKIP
        >>> recovery(planted, train_planted(planted, config)).recall  # doctest: +SKIP
    """
    generator = torch.Generator().manual_seed(seed)
    x = planted.activations(planted.codes(n_tokens, generator), generator)
    decomposed = crosscoder.decompose(x.transpose(0, 1))
    alive = torch.zeros(crosscoder.n_features, dtype=torch.bool)
    alive[decomposed[0].codes.feature] = True
    directions = torch.stack([one.directions for one in decomposed], 1)
    matches = match_directions(directions * alive.reshape(-1, 1, 1), planted.directions, minimum=minimum)
    partner = torch.full((crosscoder.n_features,), -1)
    partner[matches.feature.tolist()] = torch.tensor(matches.other.tolist(), dtype=torch.long)
    by_norm = present(directions.norm(dim=-1), fraction)
    scaling = scale_latents(crosscoder, decomposed)
    held = (scaling.ratio("reconstruction") >= SHARED_RECONSTRUCTION) | (scaling.ratio("error") >= SHARED_ERROR)
    rows = []
    for by, where in ((DECODER, by_norm), (SCALED, by_norm | held)):
        rows += [{"by": by} | row for row in _rows(where, planted.present, partner, alive)]
    return pd.DataFrame(rows)


def _rows(
    where: Bool[Tensor, "F C"], truth: Bool[Tensor, "G C"], partner: Tensor, alive: Bool[Tensor, " F"]
) -> list[dict[str, object]]:
    right = (partner >= 0) & (where == truth[partner.clamp(min=0)]).all(1)
    rows = []
    for name in (SPECIFIC, SHARED):
        learned = alive & (where.all(1) == (name == SHARED))
        asked = truth.all(1) == (name == SHARED)
        hits = int((right & learned).sum())
        rows.append(
            {
                "class": name,
                "planted": int(asked.sum()),
                "learned": int(learned.sum()),
                "precision": hits / int(learned.sum()) if learned.any() else float("nan"),
                "recall": hits / int(asked.sum()) if asked.any() else float("nan"),
            }
        )
    return rows
