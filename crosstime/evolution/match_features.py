"""The same feature in two crosscoders: one-to-one matches by the cosine of their decoders."""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError

CANDIDATES = 16
"""Best partners of each feature that are remembered."""
CHUNK = 1 << 24
"""Cosines that are in memory at a time (64 MB in float32)."""


def match_features(
    first: CrossCoder, second: CrossCoder, *, minimum: float = 0.7, candidates: int = CANDIDATES
) -> pd.DataFrame:
    """Match the features of two crosscoders, such as two seeds of one training; see `match_directions`.

    Args:
        first, second: crosscoders of the same checkpoints and site.
        minimum: smallest cosine of a match.
        candidates: number of partners that a feature can fall back on when its best is taken.

    Returns:
        One row for each match, the largest cosine first: feature, other, cosine, mutual.

    Raises:
        CrosscoderError: the crosscoders were trained on different checkpoints or sites.

    Examples:
        >>> match_features(seed_124, seed_153).cosine.describe()  # doctest: +SKIP
    """
    refuse_other_origin(first, second)
    return match_directions(first.directions()[:], second.directions()[:], minimum=minimum, candidates=candidates)


def refuse_other_origin(first: CrossCoder, second: CrossCoder) -> None:
    """Refuse two crosscoders whose decoders cannot be compared.

    Raises:
        CrosscoderError: the crosscoders were trained on different checkpoints or sites.
    """
    a, b = first.origin, second.origin
    if (a.revisions, a.site, a.d_model) != (b.revisions, b.site, b.d_model):
        raise CrosscoderError(
            f"Crosscoders of {', '.join(a.revisions)} at {a.site} and of {', '.join(b.revisions)} at {b.site} have no "
            "features in common."
        )


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
    ``sum_c <W_i,c, V_j,c> / (||W_i|| ||V_j||)``, so that a match has the same directions and the same course of norms
    over training. Pairs are matched greedily, the largest cosine first, each feature once. Only the best `candidates`
    partners of every feature, in both directions, are remembered, so that the F x G cosines are never in memory.

    Args:
        first, second: decoder directions of two crosscoders at the same checkpoints.
        minimum: smallest cosine of a match.
        candidates: number of partners that a feature can fall back on when its best is taken.

    Returns:
        One row for each match, the largest cosine first: feature, other, cosine, mutual (each is the best partner of
        the other).

    Raises:
        CrosscoderError: the numbers of checkpoints or the widths differ, or there are no candidates.

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
    first_unit, second_unit = unit_decoders(first), unit_decoders(second)
    n_columns = len(second_unit)
    k, k_back = min(candidates, n_columns), min(candidates, len(first_unit))

    # Candidates of every feature: of the first crosscoder (rows) at once, of the second (columns) as running best
    rows, columns, cosines = [], [], []
    column_best = torch.full((k_back, n_columns), -torch.inf)
    column_best_row = torch.full((k_back, n_columns), -1)
    chunk = max(1, CHUNK // max(1, n_columns))
    for start in range(0, len(first_unit), chunk):
        block = first_unit[start : start + chunk] @ second_unit.T
        row_numbers = torch.arange(start, start + len(block))
        values, partners = block.topk(k, dim=1)
        rows.append(row_numbers.repeat_interleave(k))
        columns.append(partners.flatten())
        cosines.append(values.flatten())

        column_best, index = torch.cat([column_best, block]).topk(k_back, dim=0)
        candidate_rows = torch.cat([column_best_row, row_numbers.unsqueeze(1).expand_as(block)])
        column_best_row = candidate_rows.gather(0, index)

    best_of_row = torch.cat(columns).reshape(-1, k)[:, 0]
    rows.append(column_best_row.flatten())
    columns.append(torch.arange(n_columns).repeat(k_back))
    cosines.append(column_best.flatten())

    # Match greedily
    table = _greedy(torch.cat(rows), torch.cat(columns), torch.cat(cosines), minimum)
    matched_rows = torch.tensor(table.feature.tolist(), dtype=torch.long)
    matched_columns = torch.tensor(table.other.tolist(), dtype=torch.long)
    best_of_column = column_best_row[0]
    mutual = (best_of_row[matched_rows] == matched_columns) & (best_of_column[matched_columns] == matched_rows)
    table["mutual"] = mutual.numpy()
    return table


def unit_decoders(directions: Float[Tensor, "F C D"]) -> Float[Tensor, "F E"]:
    """Decoders as vectors of length one, all checkpoints in a row; of length zero for a decoder of zeros."""
    flat = directions.reshape(len(directions), -1).float()
    norms = flat.norm(dim=1, keepdim=True)
    return flat * torch.where(norms > 0, 1 / norms, 0.0)


def _greedy(
    rows: Int[Tensor, " N"], columns: Int[Tensor, " N"], cosines: Float[Tensor, " N"], minimum: float
) -> pd.DataFrame:
    """Match candidate pairs in descending order of cosine, each row and column once."""
    allowed = (cosines >= minimum) & (rows >= 0)
    triples = zip(rows[allowed].tolist(), columns[allowed].tolist(), cosines[allowed].tolist(), strict=True)
    # Equal cosines are ordered by feature number, so that the result does not depend on the chunks.
    pairs = sorted({(-cosine, row, column) for row, column, cosine in triples})

    matched_rows: set[int] = set()
    matched_columns: set[int] = set()
    matches = []
    for negative_cosine, row, column in pairs:
        if row not in matched_rows and column not in matched_columns:
            matched_rows.add(row)
            matched_columns.add(column)
            matches.append((row, column, -negative_cosine))

    table = pd.DataFrame(matches, columns=["feature", "other", "cosine"])
    return table.astype({"feature": "int64", "other": "int64", "cosine": "float64"})
