"""Long tables from tensors: one row for every combination of indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor


def long_table(axes: Mapping[str, Sequence[Any]], values: Mapping[str, Tensor | np.ndarray]) -> pd.DataFrame:
    """A table with one row for every combination of the axes' labels; the labels of the last axis change fastest.

    Args:
        axes: name of the column and labels of each axis, in the order of the axes.
        values: name of the column and array of each quantity; the array's shape is that of the axes, or broadcasts to
            it.

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
    indices = np.indices(shape).reshape(len(shape), -1)
    columns: dict[str, Any] = {}
    for (name, labels), index in zip(axes.items(), indices, strict=True):
        columns[name] = [labels[i] for i in index]
    for name, quantity in values.items():
        array = quantity.detach().cpu().numpy() if isinstance(quantity, Tensor) else np.asarray(quantity)
        columns[name] = np.broadcast_to(array, shape).reshape(-1)
    return pd.DataFrame(columns)
