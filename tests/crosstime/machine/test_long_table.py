from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crosstime.machine.long_table import long_table

AXES = {"task": ["agreement"], "feature": [7, 3], "revision": ("step0", "step64", "main")}


def test_rows_are_those_of_nested_loops_and_arrays_are_broadcast():
    effects, norms = torch.arange(6.0).reshape(2, 3), torch.tensor([[5.0], [6.0]], dtype=torch.float64)
    table = long_table(AXES, {"ie": effects, "norm": norms, "label": np.array([["a"], ["b"]])})
    expected = [
        {
            "task": "agreement",
            "feature": feature,
            "revision": revision,
            "ie": effects[row, c].item(),
            "norm": norms[row, 0].item(),
            "label": "ab"[row],
        }
        for row, feature in enumerate([7, 3])
        for c, revision in enumerate(["step0", "step64", "main"])
    ]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected).astype({"ie": "float32"}))


def test_columns_keep_the_dtypes_of_their_arrays():
    table = long_table({"feature": [1, 2]}, {"flag": torch.tensor([True, False]), "n": torch.tensor([4, 5])})
    assert [str(dtype) for dtype in table.dtypes] == ["int64", "bool", "int64"]


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="broadcast"):
        long_table(AXES, {"ie": torch.zeros(3, 2)})
