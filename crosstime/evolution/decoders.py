"""What becomes of each feature's decoder over training: onset, peak, persistence, rotation, dimensionality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.dimensionality import feature_dimensionality
from crosstime.evolution.life_cycles import PRESENT, first_present, life_cycles, present
from crosstime.evolution.rotation import Rotation, rotation


def decoder_evolution(crosscoder: CrossCoder, *, fraction: float = PRESENT) -> dict[str, pd.DataFrame]:
    """Everything that the decoder alone says about the features over training, in one reading of its weights.

    A feature is present where the norm of its decoder direction is at least `fraction` of its maximum. ::

        onset        first checkpoint at which it is present
        peak         checkpoint of its largest norm
        persistence  checkpoints at which it is present / checkpoints from the onset on
        rotation     degrees that its direction turns, summed over steps between checkpoints at which it is present
        turning      the later checkpoint of the step at which it turns most

    Args:
        crosscoder: of any number of checkpoints; norms are on the scale of training.
        fraction: see `crosstime.evolution.life_cycles.present`.

    Returns:
        Four tables.
        ``evolution``, one row a feature: feature, onset, peak, persistence, norm (at the peak), dimensionality (there),
        rotation, turning_point, life_cycle, label.
        ``rotation``, one row for any two checkpoints: revision, other, cosine (mean over features present at
        both), n. ``rotation_steps``, one row a step: revision (the later), previous, degrees (mean), share (of all
        rotation), turning (features that turn most there). ``dimensionality``, one row a checkpoint: revision, total,
        mean and median over the features present, alive (how many these are).

    Examples:
        >>> from crosstime.crosscoders.origin import Origin
        >>> from interventions import Site
        >>> crosscoder = CrossCoder(Origin("tiny", ("step64", "main"), Site(1), d_model=8), n_features=16)
        >>> decoder_evolution(crosscoder)["evolution"].onset.unique().tolist()
        ['step64']

    Source: EoC (arXiv 2509.17196).
    """
    revisions = list(crosscoder.origin.revisions)
    norms, directions = crosscoder.decoder_norms().T, crosscoder.W_dec.detach()
    where = present(norms, fraction)
    turned = rotation(directions, where)
    dimensions = feature_dimensionality(directions, where)
    lives = life_cycles(norms, revisions, fraction=fraction)
    onset, peak = first_present(where), norms.argmax(1)
    remaining = (len(revisions) - onset).clamp(min=1)
    rows = torch.arange(len(norms))
    turning = turned.turning
    evolution = pd.DataFrame(
        {
            "feature": np.arange(len(norms)),
            "onset": _named(np.where(onset < len(revisions), onset, -1), revisions),
            "peak": _named(np.where(where.any(1), peak, -1), revisions),
            "persistence": torch.where(where.any(1), where.sum(1) / remaining, torch.nan).numpy(),
            "norm": norms[rows, peak].numpy(),
            "dimensionality": dimensions[rows, peak].numpy(),
            "rotation": turned.total.numpy(),
            "turning_point": _named(np.where(turning >= 0, turning + 1, -1), revisions),
            "life_cycle": lives.life_cycle,
            "label": lives.label,
        }
    )
    return {
        "evolution": evolution,
        "rotation": rotation_table(turned, revisions),
        "rotation_steps": rotation_steps(turned, revisions),
        "dimensionality": _dimensionality_table(dimensions, where, revisions),
    }


def rotation_table(turned: Rotation, revisions: Sequence[str]) -> pd.DataFrame:
    """Mean cosine between the decoder directions at any two checkpoints: revision, other, cosine, n."""
    return pd.DataFrame(
        {
            "revision": revision,
            "other": other,
            "cosine": turned.cosine[a, b].item(),
            "n": int(turned.count[a, b]),
        }
        for a, revision in enumerate(revisions)
        for b, other in enumerate(revisions)
    )


def rotation_steps(turned: Rotation, revisions: Sequence[str]) -> pd.DataFrame:
    """How much features turn at each step: revision, previous, degrees, share, turning; no row with one checkpoint."""
    known = ~turned.steps.isnan()
    degrees = turned.steps.double().nan_to_num(0.0).sum(0) / known.sum(0)
    shares = turned.shares
    return pd.DataFrame(
        [
            (
                later,
                earlier,
                degrees[step].item(),
                shares[step].item(),
                int((turned.turning == step).sum()),
            )
            for step, (earlier, later) in enumerate(pairwise(revisions))
        ],
        columns=["revision", "previous", "degrees", "share", "turning"],
    )


def _dimensionality_table(dimensions: torch.Tensor, where: torch.Tensor, revisions: Sequence[str]) -> pd.DataFrame:
    rows = []
    for c, revision in enumerate(revisions):
        found = dimensions[where[:, c], c].double()
        middle = float(np.median(found.numpy())) if len(found) else float("nan")
        rows.append(
            {
                "revision": revision,
                "total": found.sum().item(),
                "mean": found.mean().item(),
                "median": middle,
                "alive": len(found),
            }
        )
    return pd.DataFrame(rows)


def _named(places: np.ndarray, revisions: Sequence[str]) -> pd.Categorical:
    """Names of checkpoints by number, missing for -1; as categories, since F is large and the names are few."""
    return pd.Categorical.from_codes(places, list(revisions))
