from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from crosstime.effects.relie import classify, relative
from crosstime.errors import CrosstimeError
from crosstime.evolution.life_cycles import (
    LIFE_CYCLES,
    life_cycle_numbers,
    life_cycle_shares,
    life_cycle_support,
    life_cycles,
)
from crosstime.evolution.presence import PRESENT, present
from interventions import Bootstrap


def by_words(pattern: tuple[bool, ...]) -> str:
    """The life cycle of a pattern, found in another way: from its text of 0 and 1."""
    text = "".join("1" if present_here else "0" for present_here in pattern)
    inside = text.strip("0")
    if not inside:
        return "never"
    if "0" in inside:
        return "intermittent"
    if text == inside:
        return "always"
    if text.endswith("1"):
        return "emerging"
    if text.startswith("1"):
        return "discontinued"
    return "transient" if len(inside) == 1 else "maintained"


@pytest.mark.parametrize("n_checkpoints", [1, 2, 3, 5])
def test_every_pattern_of_presence_has_its_life_cycle(n_checkpoints: int):
    patterns = list(product([False, True], repeat=n_checkpoints))
    names = [LIFE_CYCLES[number] for number in life_cycle_numbers(torch.tensor(patterns))]
    assert names == [by_words(pattern) for pattern in patterns]


def test_presence_is_a_fraction_of_the_features_own_maximum():
    values = torch.tensor([[1.0, -4.0, 2.0], [0.0, 0.0, 0.0], [1e-9, 0.0, 0.0]])
    assert present(values, 0.5).tolist() == [[False, True, True], [False] * 3, [True, False, False]]
    assert not present(values, 0.5, floor=1e-6)[2].any()


def test_for_two_checkpoints_presence_agrees_with_the_thresholds_of_ctt():
    values = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    presence = present(values, PRESENT)
    assert torch.equal(presence, relative(values) >= 0.3 - 1e-12)
    names = {(True, True): "shared", (True, False): "a only", (False, True): "b only"}
    assert classify(relative(values), ["a", "b"]) == [names[tuple(row)] for row in presence.tolist()]


def test_labels_name_the_checkpoints():
    values = torch.tensor(
        [[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    ).float()
    table = life_cycles(values, ["a", "b", "c", "d"], features=list(range(10, 17)))
    assert table.label.tolist() == [
        "emerges at c",
        "discontinued after b",
        "maintained from b to c",
        "transient at b",
        "intermittent from a to c",
        "always",
        "never",
    ]
    assert table.feature.tolist() == list(range(10, 17))
    assert table["first"].tolist()[:4] == ["c", "a", "b", "b"]
    assert table["last"].tolist()[:4] == ["d", "b", "c", "b"]
    assert table[["first", "last"]].iloc[6].isna().all()


def test_shares_count_every_life_cycle_and_sum_to_one():
    values = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    shares = life_cycle_shares(values).set_index("life_cycle")
    assert shares.loc["emerging", "count"] == 2
    expected = dict.fromkeys(LIFE_CYCLES, 0.0) | {"never": 0.25, "emerging": 0.5, "discontinued": 0.25}
    assert shares.share.to_dict() == pytest.approx(expected)
    assert shares.low.isna().all()


def test_support_is_the_share_of_resamples_with_the_same_pattern():
    generator = np.random.default_rng(1)
    per_prompt = torch.from_numpy(np.stack([np.full((40, 2), 1.0), generator.normal([1.0, 0.43], 0.8, (40, 2))], 1))
    support = life_cycle_support(per_prompt, bootstrap=Bootstrap(400, seed=3))
    counts = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=400)
    means = np.einsum("rp,pkc->rkc", counts, per_prompt.numpy()) / 40
    presence = np.abs(means) >= PRESENT * np.abs(means).max(-1, keepdims=True)
    observed = np.abs(per_prompt.numpy().mean(0))
    expected = (presence == (observed >= PRESENT * observed.max(-1, keepdims=True))).all(-1).mean(0)
    assert support.tolist() == pytest.approx(expected)
    assert support[0] == 1
    assert 0.3 < support[1] < 1


def test_intervals_of_shares_hold_the_share_and_widen_with_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).repeat(10, 1)
    quiet, loud = (truth + spread * torch.randn(30, 20, 2, generator=generator) for spread in (0.05, 2.0))
    widths = []
    for noisy in (quiet, loud):
        row = life_cycle_shares(noisy.mean(0), noisy, bootstrap=Bootstrap(300)).set_index("life_cycle").loc["always"]
        assert row.low <= row.share + 1e-9
        widths.append(row.high - row.low)
    assert widths[0] == pytest.approx(0, abs=1e-9)
    assert widths[1] > 0.1


def test_bad_input_is_one_sentence():
    values = torch.ones(2, 3)
    with pytest.raises(CrosstimeError, match=r"above 0 and at most 1, not 0\.0"):
        present(values, 0.0)
    with pytest.raises(CrosstimeError, match="must not be negative"):
        present(values, floor=-1.0)
    with pytest.raises(CrosstimeError, match="2 revisions do not fit values of 3"):
        life_cycles(values, ["a", "b"])
    with pytest.raises(CrosstimeError, match="1 features do not fit 2 rows"):
        life_cycles(values, ["a", "b", "c"], features=[4])


def test_names_repeat_as_categories_so_that_large_dictionaries_stay_small():
    table = life_cycles(torch.ones(1000, 2), ["a", "b"])
    assert isinstance(table["first"].dtype, pd.CategoricalDtype)
