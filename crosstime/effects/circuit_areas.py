"""Areas of faithfulness curves: how much of a task a dictionary explains with few features, as one number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table

AXES = ("task", "revision", "features")
"""Columns of a table of curves that tell one curve from another, as far as they are there."""


def circuit_areas(curves: pd.DataFrame, largest: int | None = None) -> pd.DataFrame:
    """CPR and CMD, the areas of the faithfulness curves of MIB, with the number of features as a share of `largest`.

    With f the faithfulness of the top n features, and n from none to N features::

        CPR = 1/N integral_0^N f(n) dn          circuit performance ratio: 1 is a model without loss, higher is better
        CMD = 1/N integral_0^N |1 - f(n)| dn    circuit-model distance: 0 is the model's behaviour, lower is better

    Args:
        curves: a table as `faithfulness` returns it; a curve is the rows of one task, checkpoint and kind of features.
        largest: N, the same for all curves that are compared. Curves that end before stay at their last value. By
            default the largest n of the table.

    Returns:
        One row for each curve: task, revision, features (if the table has it), cpr, cmd.

    Raises:
        CrosscoderError: a column is missing, the table is empty, or `largest` is below a size of the table.

    Examples:
        >>> curves = pd.DataFrame({"task": "t", "revision": "main", "n": [1, 2], "faithfulness": [0.5, 1.0]})
        >>> circuit_areas(curves)[["cpr", "cmd"]].values.tolist()
        [[0.5, 0.5]]

    Source: Mueller et al. 2025, MIB (arXiv 2504.13151), section 3: f over the share of a model's components, by the
    trapezoidal rule.
    """
    if missing := [name for name in ("task", "revision", "n", "faithfulness") if name not in curves]:
        columns = ", ".join(map(str, curves))
        raise CrosscoderError(f"A table of faithfulness curves has a column {missing[0]!r}; this one has {columns}.")
    if curves.empty:
        raise CrosscoderError("There is no faithfulness curve in the table.")
    largest = int(curves["n"].max()) if largest is None else largest

    axes = [name for name in AXES if name in curves]
    tables = []
    for labels, curve in curves.groupby(axes, sort=False):
        curve = curve.sort_values("n")
        shares = torch.tensor(curve["faithfulness"].to_numpy(dtype="float64"))
        cpr, cmd = areas(curve["n"].tolist(), shares.unsqueeze(0), largest).unbind(-1)
        labelled = {name: [label] for name, label in zip(axes, labels, strict=True)}
        tables.append(long_table(labelled, {"cpr": cpr[0], "cmd": cmd[0]}))
    return pd.concat(tables, ignore_index=True)


def areas(sizes: Sequence[int], shares: Float[Tensor, "R G"], largest: int) -> Float[Tensor, "R 2"]:
    """CPR and CMD of R curves with the faithfulness `shares` at G ascending sizes.

    The curves begin at (0, 0), since no feature restores nothing, and stay at their last value up to `largest`.

    Raises:
        CrosscoderError: the sizes are not ascending numbers from 1 to `largest`.

    Examples:
        >>> areas([1, 2], torch.tensor([[1.0, 1.0]]), largest=4).tolist()
        [[0.875, 0.125]]
    """
    points = [0, *sizes]
    if len(points) < 2 or sorted(set(points)) != points or points[-1] > largest:
        raise CrosscoderError(
            f"The sizes of a curve must be ascending and from 1 to {largest}, the largest number of features, not "
            f"{list(sizes)}."
        )
    n = torch.tensor([*points, largest], dtype=torch.float64)
    f = torch.cat([torch.zeros_like(shares[:, :1]), shares, shares[:, -1:]], 1).double()
    values = torch.stack([f, (1 - f).abs()], 1)
    return torch.trapezoid(values, n, dim=-1) / largest
