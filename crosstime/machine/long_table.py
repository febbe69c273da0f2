"""Long tables from arrays: one row for every combination of indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor


def long_table(
    axes: Mapping[str, Sequence[object] | np.ndarray], values: Mapping[str, Tensor | np.ndarray]
) -> pd.DataFrame:
    """Make a table with one row for every combination of the axes' labels, the last axis fastest.

    A column that is the same in every row is an axis with a single label.

    Args:
        axes: for each axis the name of its column and its labels, in the order of the axes.
        values: arrays by the name of their column. The shape of an array is that of the axes, or broadcasts to it.

    Returns:
        The columns of the axes, followed by those of the values, each with the dtype of its array.

    Raises:
        ValueError: the shape of an array does not broadcast to that of the axes.

    Examples:
        >>> import torch
        >>> long_table({"revision": ["a", "b"], "feature": [3, 7]}, {"ie": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
          revision  feature   ie
        0        a        3  1.0
        1        a        7  2.0
        2        b        3  3.0
        3        b        7  4.0
    """
    shape = tuple(len(labels) for labels in axes.values())
    columns: dict[str, np.ndarray] = {}
    for (name, labels), index in zip(axes.items(), np.indices(shape), strict=True):
        columns[name] = np.asarray(labels)[index.reshape(-1)]
    for name, array in values.items():
        numbers = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
        columns[name] = np.broadcast_to(numbers, shape).reshape(-1)
    return pd.DataFrame(columns)
