"""Selection of features by their effects: ties, and effects that are not known."""

from __future__ import annotations

import pytest
import torch

from crosstime.effects.select_top import select_top
from crosstime.errors import CrosstimeError


@pytest.mark.parametrize("by", ["magnitude", "positive"])
@pytest.mark.parametrize("n_features", [6, 5_000])
def test_of_equal_effects_the_lower_numbers_are_selected(by: str, n_features: int):
    effects = torch.ones(2, n_features)
    effects[1, -1] = 2.0
    assert select_top(effects, k=2, by=by) == [n_features - 1, 0, 1]


def test_both_takes_the_lower_numbers_at_each_end():
    assert select_top(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), k=1, by="both") == [0, 1]


@pytest.mark.parametrize("by", ["magnitude", "positive", "negative", "both"])
def test_nan_is_refused_with_its_place(by: str):
    effects = torch.zeros(2, 4)
    effects[1, 2:] = torch.nan
    with pytest.raises(CrosstimeError, match="2 effects are NaN, first that of feature 2 at checkpoint 1"):
        select_top(effects, by=by)
