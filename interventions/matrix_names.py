"""Names of the weight matrices whose rows `weight_rows` reads, so that they can be checked without PyTorch."""

from __future__ import annotations

import re

from interventions.errors import InterventionError
from interventions.site import Site
from user_input.nearest import nearest

MATRICES = ("W_E", "W_U", "mlp_in", "mlp_gate", "mlp_out")
"""Matrices with vectors of width D: two of a model, and three of each block, which are followed by a layer."""


def parse_matrix(name: str) -> tuple[str, int | None]:
    """Read the name of a matrix, such as ``W_U`` or ``mlp_in.3``.

    Returns:
        The matrix, and the layer of one that each block has.

    Raises:
        InterventionError: there is no such matrix, or the layer is missing, out of place, or no number.

    Examples:
        >>> parse_matrix("W_U"), parse_matrix("mlp_out.3")
        (('W_U', None), ('mlp_out', 3))
    """
    matrix, dot, layer = name.partition(".")
    if matrix not in MATRICES:
        raise InterventionError(f"There is no matrix {matrix!r}: {nearest(matrix, MATRICES)}")
    if matrix.startswith("W_"):
        if dot:
            raise InterventionError(f"{matrix} is a matrix of the whole model and has no layer; got {name!r}.")
        return matrix, None
    if not re.fullmatch(r"-?[0-9]{1,9}", layer):
        raise InterventionError(f"{matrix} is a matrix of a block and is written {matrix}.LAYER; got {name!r}.")
    return matrix, int(layer)


def site_of_matrix(name: str) -> Site:
    """The place in the model to which the rows of a matrix belong.

    That of ``W_E`` is the residual stream after the first block, that of ``W_U`` after the last, and that of the
    others the MLP of their block.

    Raises:
        InterventionError: as `parse_matrix`.

    Examples:
        >>> str(site_of_matrix("W_U")), str(site_of_matrix("mlp_out.3"))
        ('resid.-1', 'mlp.3')
    """
    matrix, layer = parse_matrix(name)
    if layer is not None:
        return Site(layer, "mlp")
    return Site({"W_E": 0, "W_U": -1}[matrix], "resid")
