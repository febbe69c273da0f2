"""How well rows are reconstructed, against sums in float64."""

from __future__ import annotations

import pytest
import torch

from crosstime.activations import row_source
from crosstime.activations.row_source import Rows
from crosstime.crosscoders.activation_functions import PerCheckpointJumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import ROWS, Origin
from crosstime.errors import CrosscoderError
from crosstime.training.evaluate_rows import evaluate_rows
from interventions import Site

REVISIONS = ("step0", "main")


def rows(n_rows: int = 30, width: int = 6) -> Rows:
    values = torch.randn(n_rows, 2, width, generator=torch.Generator().manual_seed(1))
    values[4] *= 100  # an outlier at both
    return Rows("W_U", values, REVISIONS, Site(0))


def crosscoder(gates: bool = False, width: int = 6, **origin: object) -> CrossCoder:
    activation = PerCheckpointJumpReLU(8) if gates else None
    if activation is not None:
        with torch.no_grad():
            activation.log_threshold.fill_(-2.0)
    facts = {"training": {ROWS: "W_U"}} | origin
    made = CrossCoder(
        Origin("tiny", REVISIONS, Site(0), width, **facts), 8, torch.tensor([0.5, 2.0]), activation=activation
    )
    with torch.no_grad():
        made.W_dec[:, 1] *= torch.linspace(0.2, 3, 8).unsqueeze(-1)
    return made


@pytest.mark.parametrize("gates", [False, True])
def test_measures_are_those_of_sums_over_all_rows(gates, monkeypatch):
    monkeypatch.setattr(row_source, "_CHUNK", 7)
    source, dictionary = rows(), crosscoder(gates)
    table = evaluate_rows(dictionary, source)

    with torch.no_grad():
        codes = dictionary.encode(source.values)
        reconstruction = dictionary.decode(codes).double()
    x = source.values.double()
    for c, row in enumerate(table.itertuples()):
        of_checkpoint = codes[:, c] if gates else codes
        fires = of_checkpoint != 0
        error = ((x[:, c] - reconstruction[:, c]) ** 2).sum(-1)
        variance = ((x[:, c] - x[:, c].mean(0)) ** 2).sum()
        assert (row.revision, row.rows, row.outliers) == (REVISIONS[c], 30, 1)
        assert row.l0 == pytest.approx(fires.sum(1).double().mean().item())
        assert row.dead == int((~fires.any(0)).sum())
        assert row.fve == pytest.approx(1 - (error.sum() / variance).item(), abs=1e-5)
        usual = torch.arange(30) != 4
        usual_rows = x[usual, c]
        variance = ((usual_rows - usual_rows.mean(0)) ** 2).sum()
        assert row.fve_without_outliers == pytest.approx(1 - (error[usual].sum() / variance).item(), abs=1e-5)
        assert row.error == pytest.approx((dictionary.scales[c].double() ** 2 * error.mean()).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("dictionary", "sentence"),
    [
        (crosscoder(training={}), "was trained on activations at resid.0"),
        (crosscoder(width=5), "for rows of width 5, but those of W_U have 6"),
    ],
)
def test_another_crosscoder_is_refused(dictionary, sentence):
    with pytest.raises(CrosscoderError, match=sentence):
        evaluate_rows(dictionary, rows())


def test_other_checkpoints_are_refused():
    other = Rows("W_U", rows().values, ("main", "step0"), Site(0))
    with pytest.raises(CrosscoderError, match="is of step0, main, but the rows of W_U are of main, step0"):
        evaluate_rows(crosscoder(), other)
