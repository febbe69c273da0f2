"""The strongest rows of each feature, against sorting the dense codes."""

from __future__ import annotations

import pytest
import torch

from crosstime.activations import row_source
from crosstime.activations.row_source import Rows
from crosstime.crosscoders.activation_functions import PerCheckpointJumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import ROWS, Origin
from crosstime.errors import CrosscoderError
from crosstime.features.top_rows import row_codes, row_shares, top_rows
from interventions import Site

REVISIONS = ("step0", "main")


@pytest.fixture
def source() -> Rows:
    values = torch.randn(25, 2, 6, generator=torch.Generator().manual_seed(3))
    values[9] = values[2]  # equal activations
    return Rows("W_U", values, REVISIONS, Site(0), [f" word{row}" for row in range(25)])


def crosscoder(gates: bool) -> CrossCoder:
    activation = PerCheckpointJumpReLU(7) if gates else None
    if activation is not None:
        with torch.no_grad():
            activation.log_threshold.fill_(-4.0)
    origin = Origin("tiny", REVISIONS, Site(0), 6, training={ROWS: "W_U"})
    made = CrossCoder(origin, 7, activation=activation)
    with torch.no_grad():
        made.W_dec[:, 1] *= 3
        made.b_enc[5] = -100.0  # it never fires
    return made


@pytest.mark.parametrize("gates", [False, True])
def test_rows_are_those_of_the_largest_codes(source, gates, monkeypatch):
    monkeypatch.setattr(row_source, "_CHUNK", 4)
    dictionary = crosscoder(gates)
    table = top_rows(dictionary, source, most=3)

    with torch.no_grad():
        dense = dictionary.encode(source.values)
    dense = dense.amax(1) if gates else dense
    expected = []
    for feature in range(7):
        by_size = sorted(range(25), key=lambda row: (-dense[row, feature].item(), row))
        fires = [row for row in by_size if dense[row, feature] > 0][:3]
        expected += [(feature, rank, row, f" word{row}") for rank, row in enumerate(fires, start=1)]
    assert list(table[["feature", "rank", "row", "label"]].itertuples(index=False, name=None)) == expected
    values = [dense[row, feature].item() for feature, _, row, _ in expected]
    assert table.activation.tolist() == pytest.approx(values, rel=1e-6)
    assert 5 not in set(table.feature)

    # How often each fires, and what it writes
    density, energies = row_shares(dictionary, row_codes(dictionary, source))
    norms = dictionary.W_dec.detach().square().sum((1, 2))
    assert density.tolist() == pytest.approx((dense > 0).float().mean(0).tolist())
    assert energies.tolist() == pytest.approx((dense.square().sum(0) * norms).tolist(), rel=1e-5)


def test_features_are_listed_in_the_order_that_was_asked_for(source):
    table = top_rows(crosscoder(gates=False), source, [4, 1], most=1)
    assert table.feature.tolist() == [4, 1]


def test_rows_without_labels_have_their_numbers(source):
    unnamed = Rows("W_U", source.values, REVISIONS, Site(0))
    table = top_rows(crosscoder(gates=False), unnamed)
    assert table.label.tolist() == [str(row) for row in table.row]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"features": [7]}, "There is no feature 7: the crosscoder has 0 to 6"), ({"most": 0}, "at least 1, not 0")],
)
def test_what_is_not_there_is_refused(source, options, sentence):
    with pytest.raises(CrosscoderError, match=sentence):
        top_rows(crosscoder(gates=False), source, **options)
