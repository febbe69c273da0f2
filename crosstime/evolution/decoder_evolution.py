"""How the decoder of each feature changes over training: onset, peak, persistence, rotation, dimensionality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.dimensionality import feature_dimensionality
from crosstime.evolution.life_cycles import life_cycles
from crosstime.evolution.presence import PRESENT, checkpoint_names, first_present, present
from crosstime.evolution.rotation import Rotation, rotation
from crosstime.machine.long_table import long_table


def decoder_evolution(
    crosscoder: CrossCoder, *, features: Sequence[int] | None = None, fraction: float = PRESENT
) -> dict[str, pd.DataFrame]:
    """Describe how the decoder direction of every feature changes over training; only the weights are read.

    A feature is present where the norm of its decoder direction is at least `fraction` of its maximum. ::

        onset        first checkpoint at which it is present
        peak         checkpoint of its largest norm
        persistence  checkpoints at which it is present / checkpoints from the onset on
        rotation     degrees that its direction turns, summed over steps between checkpoints at which it is present
        turning      the later checkpoint of the step at which it turns most

    Args:
        crosscoder: of any number of checkpoints; norms are on the scale of training.
        features: the features that are described and counted, such as those that fire; None for all.
        fraction: see `crosstime.evolution.presence.present`.

    Returns:
        Four tables.
        ``evolution``, one row for each feature: feature, onset, peak, persistence, norm (at the peak), dimensionality
        (at the peak), rotation, turning_point, life_cycle, label.
        ``rotation``, one row for any two checkpoints: revision, other, cosine (mean over features that are present at
        both), n. ``rotation_steps``, one row for each step: revision (the later), previous, degrees (mean), share (of
        all rotation), turning (number of features that turn most there). ``dimensionality``, one row for each
        checkpoint: revision, total, mean and median over the features that are present, alive (their number).

    Examples:
        >>> from crosstime.crosscoders.origin import Origin
        >>> from interventions import Site
        >>> crosscoder = CrossCoder(Origin("tiny", ("step64", "main"), Site(1), d_model=8), n_features=16)
        >>> decoder_evolution(crosscoder)["evolution"].onset.unique().tolist()
        ['step64']

    Source: EoC (arXiv 2509.17196).
    """
    revisions = crosscoder.origin.revisions
    norms, directions = crosscoder.decoder_norms().T, crosscoder.directions()
    numbers = torch.arange(len(norms))
    if features is not None:
        numbers = torch.tensor(list(features), dtype=torch.int64)
        norms, directions = norms[numbers], directions[numbers]

    # Presence, rotation and dimensionality at every checkpoint
    presence = present(norms, fraction)
    angles = rotation(directions, presence)
    dimensions = feature_dimensionality(directions, presence)
    ordered = crosscoder.origin.ordered
    lives = life_cycles(norms, revisions, fraction=fraction, ordered=ordered)

    # One number for each feature
    index = torch.arange(len(norms))
    ever_present, onset, peak = presence.any(1), first_present(presence), norms.argmax(1)
    checkpoints_from_onset = (len(revisions) - onset).clamp(min=1)
    persistence = torch.where(ever_present, presence.sum(1) / checkpoints_from_onset, torch.nan)
    turning_point = torch.where(angles.turning >= 0, angles.turning + 1, -1)

    # The tables, of single features and of all together
    evolution = pd.DataFrame(
        {
            "feature": numbers.numpy(),
            "onset": checkpoint_names(onset, revisions),
            "peak": checkpoint_names(torch.where(ever_present, peak, -1), revisions),
            "persistence": persistence.numpy(),
            "norm": norms[index, peak].numpy(),
            "dimensionality": dimensions[index, peak].numpy(),
            "rotation": angles.total.numpy(),
            "turning_point": checkpoint_names(turning_point, revisions),
            "life_cycle": lives.life_cycle,
            "label": lives.label,
        }
    )

    # Models side by side have no onset, and no step from one to the next
    if not ordered:
        evolution = evolution.astype({"onset": object, "turning_point": object})
        evolution[["onset", "turning_point"]] = None
        evolution[["persistence", "rotation"]] = np.nan
        return {
            "evolution": evolution,
            "rotation": rotation_table(angles, revisions),
            "rotation_steps": rotation_steps(angles, revisions).iloc[:0],
            "dimensionality": _dimensionality_table(dimensions, presence, revisions),
        }
    return {
        "evolution": evolution,
        "rotation": rotation_table(angles, revisions),
        "rotation_steps": rotation_steps(angles, revisions),
        "dimensionality": _dimensionality_table(dimensions, presence, revisions),
    }


def rotation_table(angles: Rotation, revisions: Sequence[str]) -> pd.DataFrame:
    """Mean cosine between the decoder directions at any two checkpoints: revision, other, cosine, n."""
    return long_table(
        {"revision": revisions, "other": revisions}, {"cosine": angles.cosine.double(), "n": angles.count}
    )


def rotation_steps(angles: Rotation, revisions: Sequence[str]) -> pd.DataFrame:
    """How much features turn at each step: revision, previous, degrees, share, turning; no row with one checkpoint."""
    has_angle = ~angles.steps.isnan()
    degrees = angles.steps.double().nan_to_num(0.0).sum(0) / has_angle.sum(0)
    turning = [int((angles.turning == step).sum()) for step in range(len(revisions) - 1)]
    return pd.DataFrame(
        {
            "revision": list(revisions[1:]),
            "previous": list(revisions[:-1]),
            "degrees": degrees.numpy(),
            "share": angles.shares.numpy(),
            "turning": np.array(turning, dtype=np.int64),
        }
    )


def _dimensionality_table(
    dimensions: Float[Tensor, "F C"], presence: Bool[Tensor, "F C"], revisions: Sequence[str]
) -> pd.DataFrame:
    """Total, mean and median dimensionality of the features that are present at each checkpoint."""
    present_dimensions = [dimensions[presence[:, c], c].double() for c in range(len(revisions))]
    medians = [float(np.median(values.numpy())) if len(values) else float("nan") for values in present_dimensions]
    return pd.DataFrame(
        {
            "revision": list(revisions),
            "total": torch.stack([values.sum() for values in present_dimensions]).numpy(),
            "mean": torch.stack([values.mean() for values in present_dimensions]).numpy(),
            "median": medians,
            "alive": [len(values) for values in present_dimensions],
        }
    )
