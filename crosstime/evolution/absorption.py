"""Does a feature end, or does a more specific one absorb it? Features that end beside their candidate children.

Where a child feature fires on some of its parent's tokens only, a sparse dictionary saves a code by writing both with
the child, and the parent falls silent there (*absorption*). In a crosscoder, a parent at one checkpoint and its child
at the next become a feature that ends and a feature that turns: on the child's tokens, the latter writes the parent's
direction at the one checkpoint and the child's at the other. "Discontinued" is then a property of the dictionary as
much as of the model. For a feature that ends, with the unit direction u at its last checkpoint c::

    z(t)      = <u, x_c(t) - mean x_c>
    overlap   share of the child's tokens with z(t) at least half of the mean of z over the parent's tokens
    cosine    of u with the child's direction at the next checkpoint, c + 1
    fires     share of the child's tokens on which the parent fires: near 0 under absorption, near 1 if both are learned
    absorbed  the overlap and the cosine reach their thresholds

The overlap is read off the activation, not off the parent's gate, since a parent that is absorbed does not fire where
its child does.

Source: Chanin et al. 2024 (arXiv 2409.14507) for absorption; the comparison between checkpoints is this project's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import joint_codes
from crosstime.errors import CrosscoderError
from crosstime.evolution.latent_scaling import refuse_other_sizes
from crosstime.evolution.presence import PRESENT, last_present, present
from interventions import Codes, Decomposition
from user_input.nearest import nearest

OVERLAP, COSINE = 0.7, 0.4
"""Smallest overlap and cosine of a child that absorbs its parent; docs/features.md says how they were chosen."""
FEWEST_TOKENS = 10
"""Number of tokens on which a parent and a child must fire."""
COLUMNS = ("parent", "last_present", "child", "overlap", "cosine", "fires", "absorbed")
"""Columns of the table."""


@torch.no_grad()
def absorption(
    crosscoder: CrossCoder,
    decompositions: Sequence[Decomposition],
    *,
    parents: Mapping[int, str] | None = None,
    overlap: float = OVERLAP,
    cosine: float = COSINE,
    fraction: float = PRESENT,
) -> pd.DataFrame:
    """Find for each feature that ends the child that may have absorbed it.

    Candidates are the other features that fire and are present, by decoder norm, at the checkpoint after the parent's
    last one. The module's description has the formulas.

    Args:
        crosscoder: the features, at checkpoints in order of training.
        decompositions: of the same tokens at each checkpoint.
        parents: the last checkpoint of each feature that ends, such as by the test of presence; by default all features
            that end by decoder norm.
        overlap: smallest overlap of a child, from 0 to 1.
        cosine: smallest cosine of a child, from -1 to 1.
        fraction: see `crosstime.evolution.presence.present`.

    Returns:
        One row for each parent: parent, last_present, child (the candidate with the largest product of overlap and
        cosine), overlap, cosine, fires, absorbed. A parent or child that fires on fewer than ten tokens is left out; a
        parent without candidates has no child (-1) and is not absorbed.

    Raises:
        CrosscoderError: a threshold is out of range, a parent or its last checkpoint does not exist, or the
            decompositions do not fit.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP
        >>> table = absorption(crosscoder, text.decompositions)  # doctest: +SKIP
        >>> f"{table.absorbed.sum()} of {len(table)} features that end look absorbed"  # doctest: +SKIP

    Source: Chanin et al. 2024 (arXiv 2409.14507).
    """
    codes = joint_codes(decompositions)
    refuse_other_sizes(crosscoder, decompositions, codes)
    _check_thresholds(overlap, cosine)

    # Parents that fire, with the index of their last checkpoint, and where each feature is present
    directions = crosscoder.directions()
    presence = present(crosscoder.decoder_norms().T, fraction)
    n_firing = torch.bincount(codes.feature, minlength=codes.n_features)
    last = _last_checkpoints(crosscoder, presence) if parents is None else _given_checkpoints(crosscoder, parents)
    tokens = _tokens_by_feature(codes)

    # The best candidate of each
    rows: list[tuple[int, str, int, float, float, float, bool]] = []
    for parent, c in last.items():
        if n_firing[parent] < FEWEST_TOKENS:
            continue
        revision = crosscoder.origin.revisions[c]
        is_candidate = presence[:, c + 1] & (n_firing >= FEWEST_TOKENS)
        is_candidate[parent] = False
        candidates = is_candidate.nonzero().flatten()
        if not len(candidates):
            rows.append((parent, revision, -1, float("nan"), float("nan"), float("nan"), False))
            continue

        # How much of the parent's direction is in the activation of each token, and where the parent fires
        unit = torch.nn.functional.normalize(directions[parent, c], dim=0)
        x = decompositions[c].x
        z = (x @ unit - x.mean(0) @ unit).double()
        contains = z >= z[tokens[parent]].mean() / 2
        fires = torch.zeros(codes.n_tokens, dtype=torch.bool)
        fires[tokens[parent]] = True

        # Means over the tokens of every candidate
        overlaps = _share_of_tokens(contains, codes)[candidates]
        units = torch.nn.functional.normalize(directions[candidates, c + 1], dim=-1)
        cosines = (units @ unit).double()
        best = int((overlaps * cosines.clamp(min=0)).argmax())
        share = float(_share_of_tokens(fires, codes)[candidates[best]])
        is_absorbed = bool(overlaps[best] >= overlap and cosines[best] >= cosine)
        rows.append(
            (parent, revision, int(candidates[best]), float(overlaps[best]), float(cosines[best]), share, is_absorbed)
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check_thresholds(overlap: float, cosine: float) -> None:
    if not 0 <= overlap <= 1:
        raise CrosscoderError(f"The smallest overlap of a child is between 0 and 1, not {overlap}.")
    if not -1 <= cosine <= 1:
        raise CrosscoderError(f"The smallest cosine of a child is between -1 and 1, not {cosine}.")


def _last_checkpoints(crosscoder: CrossCoder, presence: Bool[Tensor, "F C"]) -> dict[int, int]:
    """The last checkpoint of each feature that ends before the last one."""
    last = last_present(presence)
    ending = (last >= 0) & (last < crosscoder.n_checkpoints - 1)
    return {feature: int(last[feature]) for feature in ending.nonzero().flatten().tolist()}


def _given_checkpoints(crosscoder: CrossCoder, parents: Mapping[int, str]) -> dict[int, int]:
    """The indices of given last checkpoints."""
    revisions = crosscoder.origin.revisions
    for feature, revision in parents.items():
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
        if revision not in revisions[:-1]:
            raise CrosscoderError(
                f"Feature {feature} cannot end after {revision!r}: {nearest(revision, revisions[:-1])}"
            )
    return {feature: revisions.index(revision) for feature, revision in parents.items()}


def _tokens_by_feature(codes: Codes) -> tuple[Int[Tensor, " N"], ...]:
    """The tokens on which each feature fires."""
    order = codes.feature.argsort(stable=True)
    counts = torch.bincount(codes.feature, minlength=codes.n_features)
    return codes.token[order].split(counts.tolist())


def _share_of_tokens(mask: Bool[Tensor, " T"], codes: Codes) -> Float[Tensor, " F"]:
    """The share of each feature's tokens that are in a mask; NaN for a feature that never fires."""
    total = torch.bincount(codes.feature, minlength=codes.n_features).double()
    return torch.bincount(codes.feature, weights=mask[codes.token].double(), minlength=codes.n_features) / total
