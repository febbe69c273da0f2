"""Rows of weight matrices of every checkpoint, to train a crosscoder of parameters on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.activations.row_source import Rows
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.suites.token_text import token_text
from interventions import Model, weight_rows
from interventions.matrix_names import parse_matrix, site_of_matrix

JOIN = "+"
"""Between the names of several matrices, in the name of their rows."""


def parameter_rows(suite: Suite, matrices: str | Sequence[str], *, compute: Compute = Compute()) -> Rows:
    """Read the rows of weight matrices at every checkpoint of a suite; row t is the same token or neuron everywhere.

    A crosscoder of such rows (`crosstime.train_rows`) shows which directions of the weights appear, turn and disappear
    over training, without a text. Rows of ``W_E`` and ``W_U`` beyond the vocabulary of the tokenizer are left out: they
    stand for no token. Of several matrices, the rows of the first come first.

    Args:
        suite: the C checkpoints.
        matrices: one or several of ``W_E``, ``W_U``, ``mlp_in.LAYER``, ``mlp_gate.LAYER`` and ``mlp_out.LAYER``; see
            `interventions.weight_rows`. Negative layers count from the last block.
        compute: where the checkpoints are opened; one is in memory at a time.

    Returns:
        The rows, named by their matrices (``W_U``, or ``mlp_in.0+mlp_in.1``). Their labels are tokens, with the matrix
        in front if both embeddings are read (``W_E:  the``), and ``mlp_in.3 neuron 0`` and so on. Their site is that of
        the first matrix: the residual stream after the last block for ``W_U``, after the first block for ``W_E``, and
        the MLP of its block for the others.

    Raises:
        InterventionError: there is no such matrix or layer, or a model does not have exactly one such matrix.
        CrosscoderError: a server runs the checkpoints, a matrix is named twice or not at all, is not finite, or is not
            of the same size at all checkpoints.
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.

    Examples:
        >>> rows = parameter_rows(suite, "W_U")  # doctest: +SKIP
        >>> trained = train_rows(rows, BatchTopKConfig(n_features=4096, k=16, steps=2000))  # doctest: +SKIP
    """
    # Refuse what cannot be read before a model is opened
    requested_names = [matrices] if isinstance(matrices, str) else list(matrices)
    if not requested_names:
        raise CrosscoderError("Rows of parameters need the name of at least one matrix.")
    if compute.remote is not None:
        for name in requested_names:
            parse_matrix(name)
        raise CrosscoderError("Rows of parameters are read on this machine: leave Compute.remote out.")
    names = [resolved_matrix(name, suite.n_layers) for name in requested_names]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise CrosscoderError(f"{repeated[0]} is named twice, and its rows would be there twice.")
    compute.verify(suite, distinct=True)

    # Read the matrices of one checkpoint after the other
    n_tokens = len(suite.tokenizer)

    def read(index: int, model: Model) -> list[Float[Tensor, "T D"]]:
        rows = [weight_rows(model, name) for name in names]
        return [part[:n_tokens] if _is_of_tokens(name) else part for name, part in zip(names, rows, strict=True)]

    by_checkpoint = compute.each(suite, read)
    for index, name in enumerate(names):
        sizes = [len(parts[index]) for parts in by_checkpoint]
        if len(set(sizes)) > 1:
            numbers = ", ".join(f"{size:,} at {at!r}" for at, size in zip(suite.revisions, sizes, strict=True))
            raise CrosscoderError(f"{name} has not the same number of rows at all checkpoints: {numbers}.")

    # Name the rows
    values = torch.stack([torch.cat(parts) for parts in by_checkpoint], dim=1)
    one_vocabulary = sum(map(_is_of_tokens, names)) == 1
    labels: list[str] = []
    for name, part in zip(names, by_checkpoint[0], strict=True):
        if _is_of_tokens(name):
            prefix = "" if one_vocabulary else f"{name}: "
            labels += [f"{prefix}{token_text(suite.tokenizer, token)}" for token in range(len(part))]
        else:
            labels += [f"{name} neuron {neuron}" for neuron in range(len(part))]
    site = site_of_matrix(names[0]).resolve(suite.n_layers)
    return Rows(JOIN.join(names), values, suite.revisions, site, labels, suite.name, suite.ordered)


def resolved_matrix(name: str, n_layers: int) -> str:
    """The name of a matrix with its layer counted from the first block.

    Raises:
        InterventionError: there is no such matrix.
        SiteError: the model does not have the layer.

    Examples:
        >>> resolved_matrix("mlp_in.-1", 4), resolved_matrix("W_U", 4)
        ('mlp_in.3', 'W_U')
    """
    matrix, layer = parse_matrix(name)
    return matrix if layer is None else f"{matrix}.{site_of_matrix(name).resolve(n_layers).layer}"


def _is_of_tokens(name: str) -> bool:
    """Whether the rows of a matrix stand for tokens."""
    return parse_matrix(name)[1] is None
