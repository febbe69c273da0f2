"""How well a crosscoder reconstructs the rows of a source."""

from __future__ import annotations

import math

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.activations.row_source import RowSource, row_chunks
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.errors import CrosscoderError
from crosstime.suites.token_norms import NormConcentration, is_outlier, token_norms

COLUMNS = (
    "revision",
    "rows",
    "l0",
    "dead",
    "alive",
    "fve",
    "fve_without_outliers",
    "outliers",
    "top_norm_share",
    "error",
)


def evaluate_rows(crosscoder: CrosscoderSource, source: RowSource) -> pd.DataFrame:
    """Reconstruction of the rows of a source at every checkpoint; a row takes the place of a token.

    Training has seen the same rows, of which there are no others: the numbers say how well the dictionary describes the
    matrix, and not how well it would describe new rows.

    Args:
        crosscoder: what to evaluate, as `train_rows` trained it: a crosscoder, or its path or repository.
        source: the rows, such as `parameter_rows` reads them.

    Returns:
        One row for each checkpoint, with the measures of reconstruction of `crosstime.evaluate`: revision, rows
        (their number), l0, dead, alive, fve, fve_without_outliers, outliers, top_norm_share, error. There are no
        losses.

    Raises:
        CrosscoderError: the crosscoder was trained on activations, or is of other checkpoints or another width.

    Examples:
        >>> evaluate_rows(trained.crosscoder, rows)[["revision", "fve"]]  # doctest: +SKIP
    """
    crosscoder = as_crosscoder(crosscoder)
    refuse_other_rows(crosscoder, source)

    # Norms and means come first, since they tell which rows are outliers
    norms = torch.cat([token_norms(x) for x in row_chunks(source)])
    is_usual = ~is_outlier(norms)

    # Errors of every row, and which features fire
    n_checkpoints, width = len(source.revisions), source.d_model
    errors, firings = torch.zeros(len(source), n_checkpoints, dtype=torch.float64), torch.zeros(n_checkpoints)
    fires = torch.zeros(n_checkpoints, crosscoder.n_features, dtype=torch.bool)
    sums = torch.zeros(2, n_checkpoints, width, dtype=torch.float64)
    start = 0
    for x in row_chunks(source):
        stop = start + len(x)
        for c, decomposition in enumerate(crosscoder.decompose(x.transpose(0, 1))):
            errors[start:stop, c] = (decomposition.x - decomposition.reconstruction).double().square().sum(-1)
            firings[c] += len(decomposition.codes.feature)
            fires[c, decomposition.codes.feature] = True
        sums[0] += x.double().sum(0)
        sums[1] += (x.double() * is_usual[start:stop].unsqueeze(-1)).sum(0)
        start = stop

    # One row for each checkpoint
    squares = norms.double().square()
    table = []
    for c, revision in enumerate(source.revisions):
        concentration, usual = NormConcentration.of(norms[:, c]), is_usual[:, c]
        alive = int(fires[c].sum())
        table.append(
            {
                "revision": revision,
                "rows": len(source),
                "l0": firings[c].item() / len(source),
                "dead": crosscoder.n_features - alive,
                "alive": alive / crosscoder.n_features,
                "fve": _explained(errors[:, c], squares[:, c], sums[0, c]),
                "fve_without_outliers": _explained(errors[usual, c], squares[usual, c], sums[1, c]),
                "outliers": concentration.outliers,
                "top_norm_share": concentration.top_share,
                "error": (crosscoder.scales[c].double() ** 2 * errors[:, c].mean()).item(),
            }
        )
    return pd.DataFrame(table)[list(COLUMNS)]


def refuse_other_rows(crosscoder: CrossCoder, source: RowSource) -> None:
    """Refuse a crosscoder that was not trained on rows like those of a source.

    Raises:
        CrosscoderError: it was trained on activations, or is of other checkpoints or another width.
    """
    origin = crosscoder.origin
    if origin.rows is None:
        raise CrosscoderError(f"This crosscoder was trained on activations at {origin.site}, and not on rows.")
    if origin.revisions != tuple(source.revisions):
        raise CrosscoderError(
            f"This crosscoder is of {', '.join(origin.revisions)}, but the rows of {source.name} are of "
            f"{', '.join(source.revisions)}: give the same in the same order."
        )
    if origin.d_model != source.d_model:
        raise CrosscoderError(
            f"This crosscoder is for rows of width {origin.d_model}, but those of {source.name} have {source.d_model}."
        )


def _explained(errors: Float[Tensor, " T"], squares: Float[Tensor, " T"], total: Float[Tensor, " D"]) -> float:
    """``1 - sum ||x - x̂||² / sum ||x - mean x||²``, where the latter is ``sum ||x||² - ||sum x||² / T``."""
    variance = (squares.sum() - total.square().sum() / len(squares)).item()
    return 1 - errors.sum().item() / variance if variance > 0 else math.nan
