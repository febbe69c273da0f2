"""The same feature in another crosscoder: one-to-one matches by decoder cosine, and what seeds agree on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.evolution.life_cycles import LIFE_CYCLES, PRESENT, life_cycle_numbers, present
from crosstime.features.kappa import cohens_kappa

CANDIDATES = 16
_AT_ONCE = 1 << 24
"""Cosines that are held at a time (64 MB in float32)."""


@torch.no_grad()
def match_directions(
    first: Float[Tensor, "F C D"],
    second: Float[Tensor, "G _ _"],
    *,
    minimum: float = 0.7,
    candidates: int = CANDIDATES,
) -> pd.DataFrame:
    """Match features one to one by the cosine of their decoders at all checkpoints together.

    The cosine of features i and j is that of the C D numbers of their decoders,
    ``sum_c <W_i,c, V_j,c> / (||W_i|| ||V_j||)``, so that a match has the same directions and the same norms over
    training. Pairs are taken greedily, the largest cosine first, each feature once. Only the `candidates` best
    partners of every feature, in both directions, are remembered: F x G numbers are never held.

    Args:
        first, second: decoder directions of two crosscoders at the same checkpoints.
        minimum: smallest cosine of a match.
        candidates: partners that a feature can fall back on when its best is taken.

    Returns:
        One row a match, the largest cosine first: feature, other, cosine, mutual (each is the other's best partner).

    Raises:
        CrosscoderError: other checkpoints or widths, or no candidates.

    Examples:
        >>> directions = torch.randn(5, 2, 8)
        >>> match_directions(directions, directions.flip(0)).sort_values("feature").other.tolist()
        [4, 3, 2, 1, 0]
    """
    if first.shape[1:] != second.shape[1:]:
        raise CrosscoderError(
            f"Features of {first.shape[1]} checkpoints and width {first.shape[2]} do not match those of "
            f"{second.shape[1]} and {second.shape[2]}."
        )
    if candidates < 1:
        raise CrosscoderError(f"Matching needs at least one candidate a feature, not {candidates}.")
    own, others = (_unit(directions) for directions in (first, second))
    k, back = min(candidates, len(others)), min(candidates, len(own))
    piece = max(1, _AT_ONCE // max(1, len(others)))
    rows, columns, cosines = [], [], []
    best = torch.full((back, len(others)), -torch.inf)
    best_row = torch.full((back, len(others)), -1)
    for start in range(0, len(own), piece):
        block = own[start : start + piece] @ others.T
        value, place = block.topk(k, dim=1)
        rows.append(torch.arange(start, start + len(block)).repeat_interleave(k))
        columns.append(place.flatten())
        cosines.append(value.flatten())
        value, place = torch.cat([best, block]).topk(back, dim=0)
        numbered = torch.cat([best_row, torch.arange(start, start + len(block)).unsqueeze(1).expand_as(block)])
        best, best_row = value, numbered.gather(0, place)
    rows.append(best_row.flatten())
    columns.append(torch.arange(len(others)).repeat(back))
    cosines.append(best.flatten())
    row, column, cosine = torch.cat(rows), torch.cat(columns), torch.cat(cosines)
    best_of_own = torch.cat(columns[:-1]).reshape(-1, k)[:, 0]
    table = _greedy(row, column, cosine, minimum)
    mine, theirs = (torch.tensor(table[name].tolist(), dtype=torch.long) for name in ("feature", "other"))
    table["mutual"] = ((best_of_own[mine] == theirs) & (best_row[0][theirs] == mine)).numpy()
    return table


def match_features(
    first: CrossCoder, second: CrossCoder, *, minimum: float = 0.7, candidates: int = CANDIDATES
) -> pd.DataFrame:
    """`match_directions` of two crosscoders, such as two seeds of one training.

    Raises:
        CrosscoderError: they were trained on other checkpoints or sites.

    Examples:
        >>> match_features(seed_124, seed_153).cosine.describe()  # doctest: +SKIP
    """
    a, b = first.origin, second.origin
    if (a.revisions, a.site, a.d_model) != (b.revisions, b.site, b.d_model):
        raise CrosscoderError(
            f"Crosscoders of {', '.join(a.revisions)} at {a.site} and of {', '.join(b.revisions)} at {b.site} have no "
            "features in common."
        )
    return match_directions(first.W_dec.detach(), second.W_dec.detach(), minimum=minimum, candidates=candidates)


def seed_agreement(
    crosscoders: Sequence[CrossCoder],
    labels: Sequence[Sequence[str]] | None = None,
    *,
    minimum: float = 0.7,
    fraction: float = PRESENT,
    seed: int = 0,
) -> pd.DataFrame:
    """How far crosscoders of several seeds agree: which features both found, and whether they label them alike.

    Args:
        crosscoders: of the same checkpoints and site, at least two.
        labels: for each crosscoder one label a feature, such as its class by RelIE; default the life of its decoder
            norms (`crosstime.evolution.life_cycles`), with presence from `fraction` on.
        minimum: smallest cosine of a match, see `match_features`.
        fraction: see above.
        seed: of the bootstrap of kappa.

    Returns:
        One row for each two crosscoders: first, second (their places), matched (pairs), share (of the smaller
        dictionary), cosine (mean over matches), agreement (share of matches with the same label), kappa, low, high.

    Raises:
        CrosscoderError: fewer than two crosscoders, ones that do not fit, or labels that do not fit them.

    Examples:
        >>> seed_agreement([seed_124, seed_153, seed_6582])  # doctest: +SKIP
    """
    if len(crosscoders) < 2:
        raise CrosscoderError(f"Agreement needs at least two crosscoders, not {len(crosscoders)}.")
    named = [_lives(one, fraction) for one in crosscoders] if labels is None else [list(each) for each in labels]
    if [len(each) for each in named] != [one.n_features for one in crosscoders]:
        raise CrosscoderError("Labels are needed for every feature of every crosscoder.")
    rows = []
    for (i, first), (j, second) in combinations(enumerate(crosscoders), 2):
        found = match_features(first, second, minimum=minimum)
        agreed = (
            cohens_kappa(
                [named[i][feature] for feature in found.feature],
                [named[j][feature] for feature in found.other],
                seed=seed,
            )
            if len(found)
            else None
        )
        nothing = float("nan")
        rows.append(
            {
                "first": i,
                "second": j,
                "matched": len(found),
                "share": len(found) / min(first.n_features, second.n_features),
                "cosine": found.cosine.mean(),
                "agreement": agreed.agreement if agreed else nothing,
                "kappa": agreed.kappa if agreed else nothing,
                "low": agreed.low if agreed else nothing,
                "high": agreed.high if agreed else nothing,
            }
        )
    return pd.DataFrame(rows)


def _lives(crosscoder: CrossCoder, fraction: float) -> list[str]:
    numbers = life_cycle_numbers(present(crosscoder.decoder_norms().T, fraction))
    return [LIFE_CYCLES[number] for number in numbers]


def _unit(directions: Float[Tensor, "F C D"]) -> Float[Tensor, "F E"]:
    flat = directions.reshape(len(directions), -1).float()
    norms = flat.norm(dim=1, keepdim=True)
    return flat * torch.where(norms > 0, 1 / norms, 0.0)


def _greedy(row: Tensor, column: Tensor, cosine: Tensor, minimum: float) -> pd.DataFrame:
    kept = (cosine >= minimum) & (row >= 0)
    # Equal cosines go by the features' numbers, so that the result does not depend on how pieces were cut.
    pairs = sorted(
        {
            (-value, i, j)
            for i, j, value in zip(row[kept].tolist(), column[kept].tolist(), cosine[kept].tolist(), strict=True)
        }
    )
    taken, given, matches = set(), set(), []
    for value, i, j in pairs:
        if i not in taken and j not in given:
            taken.add(i)
            given.add(j)
            matches.append((i, j, -value))
    mine, theirs, cosines = zip(*matches, strict=True) if matches else ((), (), ())
    table = pd.DataFrame({"feature": mine, "other": theirs, "cosine": cosines})
    return table.astype({"feature": "int64", "other": "int64", "cosine": "float64"})
