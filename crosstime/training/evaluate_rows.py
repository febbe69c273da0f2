"""How well a crosscoder reconstructs the rows of a source."""

from __future__ import annotations

import pandas as pd
import torch

from crosstime.activations.row_source import RowSource, row_chunks
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.crosscoders.reconstruction_sums import RECONSTRUCTION, ReconstructionSums
from crosstime.errors import CrosscoderError
from crosstime.suites.token_norms import token_norms

COLUMNS = ("revision", "rows", *RECONSTRUCTION)
"""Columns of `evaluate_rows`."""


def evaluate_rows(crosscoder: CrosscoderSource, source: RowSource) -> pd.DataFrame:
    """Measure how well the rows of a source are reconstructed at every checkpoint; a row takes the place of a token.

    Training has seen the same rows, since a matrix has no others: the numbers say how well the dictionary describes the
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

    # Norms come first, since they tell which rows are outliers
    norms = torch.cat([token_norms(x) for x in row_chunks(source)])
    sums = [ReconstructionSums(column, crosscoder.n_features) for column in norms.unbind(1)]

    # Errors of every row, and which features fire
    for x in row_chunks(source):
        for of_checkpoint, decomposition in zip(sums, crosscoder.decompose(x.transpose(0, 1)), strict=True):
            of_checkpoint.add(decomposition.x, decomposition.reconstruction, decomposition.codes.feature)

    # One row for each checkpoint
    table = [
        {"revision": revision, "rows": len(source)} | sums[c].measures(float(crosscoder.scales[c]))
        for c, revision in enumerate(source.revisions)
    ]
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
