"""Rows of a weight matrix of every checkpoint, to train a crosscoder of parameters on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.activations.row_source import Rows
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Model, Site, weight_rows
from interventions.weight_rows import parse_matrix


def parameter_rows(suite: Suite, matrix: str, *, compute: Compute = Compute()) -> Rows:
    """The rows of a weight matrix at every checkpoint of a suite, where row t is the same token or neuron at all.

    A crosscoder of such rows (`crosstime.train_rows`) shows which directions of the weights appear, turn and disappear
    over training, without a text. Rows of ``W_E`` and ``W_U`` beyond the vocabulary of the tokenizer are left out: they
    stand for no token.

    Args:
        suite: the C checkpoints.
        matrix: ``W_E``, ``W_U``, ``mlp_in.LAYER``, ``mlp_gate.LAYER`` or ``mlp_out.LAYER``; see
            `interventions.weight_rows`.
        compute: where the checkpoints are opened; one is in memory at a time.

    Returns:
        The rows, with tokens as labels, or ``neuron 0`` and so on. Their site is the residual stream after the last
        block for ``W_U``, after the first block for ``W_E``, and the MLP of its block for the others.

    Raises:
        InterventionError: there is no such matrix or layer, or a model has not one such matrix.
        CrosscoderError: a server runs the checkpoints, or the matrix is not finite or not the same size at all.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.

    Examples:
        >>> rows = parameter_rows(suite, "W_U")  # doctest: +SKIP
        >>> trained = train_rows(rows, BatchTopKConfig(n_features=4096, k=16, steps=2000))  # doctest: +SKIP
    """
    # Refuse what cannot be read before a model is opened
    kind, layer = parse_matrix(matrix)
    if compute.remote is not None:
        raise CrosscoderError("Rows of parameters are read on this machine: leave Compute.remote out.")
    site = Site({"W_E": 0, "W_U": -1}.get(kind, layer or 0), "mlp" if layer is not None else "resid")
    site = site.resolve(suite.n_layers)
    compute.verify(suite, distinct=True)

    # Read the matrix of one checkpoint after the other
    n_tokens = len(suite.tokenizer)

    def read(index: int, model: Model) -> Float[Tensor, "T D"]:
        rows = weight_rows(model, matrix)
        return rows[:n_tokens] if layer is None else rows

    matrices = compute.each(suite, read)
    if len({len(rows) for rows in matrices}) > 1:
        numbers = ", ".join(f"{len(rows):,} at {name!r}" for name, rows in zip(suite.revisions, matrices, strict=True))
        raise CrosscoderError(f"{matrix} has not the same number of rows at all checkpoints: {numbers}.")

    # Name the rows
    values = torch.stack(matrices, dim=1)
    if layer is None:
        labels = [str(suite.tokenizer.decode([token])) for token in range(len(values))]
    else:
        labels = [f"neuron {neuron}" for neuron in range(len(values))]
    return Rows(matrix, values, suite.revisions, site, labels, suite.name, suite.ordered)
