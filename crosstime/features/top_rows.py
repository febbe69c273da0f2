"""The rows on which the features of a crosscoder of parameters fire most strongly."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.activations.row_source import Rows, RowSource, row_chunks
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.errors import CrosscoderError
from crosstime.training.evaluate_rows import refuse_other_rows
from interventions import Codes

COLUMNS = ("feature", "rank", "row", "label", "activation")


def top_rows(
    crosscoder: CrosscoderSource, source: RowSource, features: Sequence[int] | None = None, *, most: int = 12
) -> pd.DataFrame:
    """Find the rows on which each feature fires most strongly, such as the tokens of ``W_U`` or the neurons of an MLP.

    Args:
        crosscoder: what `crosstime.train_rows` trained: a crosscoder, or its path or repository.
        source: the rows, such as `crosstime.parameter_rows` reads them.
        features: feature numbers; None for all.
        most: largest number of rows for each feature.

    Returns:
        The rows of each feature in the order of `features`, the strongest first: feature, rank (from 1), row (its
        index), label (of `Rows`; else the index), activation (in the units of the code; with a gate per checkpoint,
        where it is open at any). A feature that fires on no row is not there.

    Raises:
        CrosscoderError: the crosscoder was trained on activations, or is of other checkpoints or another width; there
            is no such feature.

    Examples:
        >>> top_rows(trained.crosscoder, rows, [3]).label.tolist()  # doctest: +SKIP
        [' Monday', ' Tuesday', ' Friday']
    """
    # Check the arguments
    crosscoder = as_crosscoder(crosscoder)
    refuse_other_rows(crosscoder, source)
    if most < 1:
        raise CrosscoderError(f"most must be at least 1, not {most}.")
    wanted = list(range(crosscoder.n_features)) if features is None else list(features)
    for feature in wanted:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )

    # Sort the entries of all features by activation, equal ones by row, and take the first of each feature
    codes = row_codes(crosscoder, source)
    order = torch.argsort(codes.value, descending=True, stable=True)
    order = order[torch.argsort(codes.feature[order], stable=True)]
    counts = torch.bincount(codes.feature, minlength=crosscoder.n_features)
    starts = counts.cumsum(0) - counts
    labels = source.labels if isinstance(source, Rows) else ()

    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for feature in wanted:
        start = int(starts[feature])
        entries = order[start : start + min(most, int(counts[feature]))]
        rows = codes.token[entries].tolist()
        columns["feature"] += [feature] * len(rows)
        columns["rank"] += range(1, len(rows) + 1)
        columns["row"] += rows
        columns["label"] += [labels[row] if labels else str(row) for row in rows]
        columns["activation"] += codes.value[entries].tolist()
    return pd.DataFrame(columns)


@torch.no_grad()
def row_codes(crosscoder: CrossCoder, source: RowSource) -> Codes:
    """Codes of all rows of a source; with a gate per checkpoint, those that are open at any checkpoint."""
    token, feature, value = [], [], []
    start = 0
    for x in row_chunks(source):
        chunk = _any_gate(crosscoder.sparse_codes(x.to(crosscoder.b_dec)))
        token.append(chunk.token.cpu() + start)
        feature.append(chunk.feature.cpu())
        value.append(chunk.value.float().cpu())
        start += len(x)
    return Codes(torch.cat(token), torch.cat(feature), torch.cat(value), len(source), crosscoder.n_features)


def row_shares(crosscoder: CrossCoder, codes: Codes) -> tuple[Float[Tensor, " F"], Float[Tensor, " F"]]:
    """For each feature the share of the rows on which it fires, and how much of them it writes.

    The latter is ``sum_t f_ti² sum_c ||W_dec[i, c]||²``, on the scale of training.
    """
    fires = torch.bincount(codes.feature, minlength=codes.n_features)
    energy = torch.zeros(codes.n_features, dtype=torch.float64)
    energy.index_add_(0, codes.feature, codes.value.double().square())
    energies = energy * crosscoder.decoder_norms().double().square().sum(0)
    return fires / max(1, codes.n_tokens), energies.float()


def _any_gate(gates: Sequence[Codes]) -> Codes:
    """The entries of any of several gates, each once; where a gate is open, the value is the same at all."""
    if len(gates) == 1:
        return gates[0]
    n_features = gates[0].n_features
    keys: Int[Tensor, " N"] = torch.cat([gate.token * n_features + gate.feature for gate in gates])
    values = torch.cat([gate.value for gate in gates])
    unique, inverse = torch.unique(keys, return_inverse=True)
    value = torch.full((len(unique),), -torch.inf, dtype=values.dtype).scatter_reduce(0, inverse, values, "amax")
    return Codes(unique // n_features, unique % n_features, value, gates[0].n_tokens, n_features)
