"""The test of presence against loops in numpy, its calibration, and what it finds on planted problems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.evolution.presence_test import presence_test
from crosstime.evolution.recovery import recovery
from crosstime.training.plant import plant
from interventions import Codes, Site

REVISIONS = ("a", "b", "c")


@pytest.fixture
def crosscoder() -> CrossCoder:
    crosscoder = CrossCoder(Origin("mine", REVISIONS, Site(0), 6), 5, torch.tensor([1.0, 0.5, 3.0]), decoder_norm=1.0)
    with torch.no_grad():
        crosscoder.W_dec.mul_(torch.rand(5, 3, 1, generator=torch.Generator().manual_seed(2)) + 0.2)
        crosscoder.W_dec[3, 0] = 0
    return crosscoder


def by_hand(crosscoder: CrossCoder, x: torch.Tensor, sequence: np.ndarray, feature: int, c: int, minimum: float):
    """Slope, share, its standard error, and p of one feature at one checkpoint: loops in float64."""
    codes = crosscoder.encode(x.transpose(0, 1)).detach().double().numpy()
    weights, scales = crosscoder.W_dec.detach().double().numpy(), crosscoder.scales.double().numpy()
    bias = crosscoder.b_dec.detach().double().numpy()
    f = codes[:, feature]
    norms = np.linalg.norm(weights[feature], axis=1)
    peak = int(norms.argmax())

    def regress(c: int) -> tuple[float, np.ndarray]:
        source = c if norms[c] >= minimum * norms[peak] else peak
        unit = weights[feature, source] / norms[source]
        others = np.delete(codes, feature, 1) @ np.delete(weights[:, c], feature, 0)
        z = (scales[c] * x[c].double().numpy() - bias[c] - others) @ unit
        design = np.stack([np.ones_like(f), f], 1)
        (_, slope), *_ = np.linalg.lstsq(design, z, rcond=None)
        residual = z - design @ np.linalg.lstsq(design, z, rcond=None)[0]
        bread = np.linalg.inv(design.T @ design)
        groups = [bread @ design[sequence == g].T @ residual[sequence == g] for g in np.unique(sequence)]
        return float(slope), np.array(groups)[:, 1]

    slope, influence = regress(c)
    peak_slope, peak_influence = regress(peak)
    n = sum(bool((f[sequence == g] > 0).any()) for g in np.unique(sequence))
    share = slope / peak_slope
    spread = (influence - share * peak_influence) / peak_slope
    contrast = influence - minimum * peak_influence
    t = (slope - minimum * peak_slope) / np.sqrt((contrast**2).sum() * n / (n - 1))
    return slope, share, np.sqrt((spread**2).sum() * n / (n - 1)), stats.t.sf(t, n - 1), n, peak


def test_statistic_is_that_of_a_cluster_robust_regression(crosscoder: CrossCoder):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 240, 6, generator=generator) + crosscoder.W_dec.detach()[0].unsqueeze(1)
    sequence = np.arange(240) // 8
    table = presence_test(crosscoder, crosscoder.decompose(x), sequence_of_token=torch.tensor(sequence), minimum=0.3)
    n_tested = 0
    for row in table.itertuples():
        c = REVISIONS.index(row.revision)
        slope, share, error, p, n, peak = by_hand(crosscoder, x, sequence, row.feature, c, 0.3)
        assert row.slope == pytest.approx(slope, abs=1e-5)
        if np.isnan(row.share):
            continue
        assert row.share == pytest.approx(share, abs=1e-5)
        assert row.high - row.share == pytest.approx(stats.t.isf(0.025, n - 1) * error, abs=1e-5)
        if c == peak:
            assert (row.share, row.presence) == (1, "present")
            assert np.isnan(row.p)
        else:
            assert row.p == pytest.approx(p, abs=1e-4)
            n_tested += 1
    assert n_tested >= 4


def test_folding_changes_nothing(crosscoder: CrossCoder):
    x = torch.randn(3, 240, 6, generator=torch.Generator().manual_seed(0))
    tables = [presence_test(version, version.decompose(x)) for version in (crosscoder, crosscoder.fold())]
    for name in ("share", "p", "activation_share"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], atol=1e-4)


def test_at_the_smallest_share_few_features_are_called_present_or_absent():
    planted = plant(200, 2, 64, shared=1.0, density=8.0, noise=0.1, seed=3)
    directions = planted.directions.clone()
    directions[:, 1] *= 0.1
    planted = replace(planted, directions=directions)
    generator = torch.Generator().manual_seed(0)
    codes = planted.codes(4_096, generator)
    # True codes and decoders, so that the hypothesis holds exactly: the share is .1
    crosscoder = planted.crosscoder()
    sparse = Codes.from_dense(codes)
    x = planted.activations(codes, generator).transpose(0, 1)
    decompositions = [replace(part, codes=sparse) for part in crosscoder.decompose(x)]
    table = presence_test(crosscoder, decompositions)
    weak = table[table.revision == "c1"]
    low, high = stats.binom.interval(0.999, len(weak), 0.05)
    for p in (weak.p, 1 - weak.p):
        assert low <= (p <= 0.05).sum() <= high
    covered = ((weak.low <= 0.1) & (weak.high >= 0.1)).sum()
    assert low <= len(weak) - covered <= high
    assert (weak.presence == "undecided").mean() >= 0.98


@pytest.mark.parametrize(("strength", "answer"), [(0.0, "absent"), (0.2, "present"), (1.0, "present")])
@pytest.mark.parametrize("shrunken", [False, True])
def test_a_weak_feature_is_present_whatever_its_decoder_says(strength: float, answer: str, shrunken: bool):
    planted = plant(30, 2, 64, shared=1.0, density=2.0, noise=0.01)
    directions = planted.directions.clone()
    directions[:, 0] *= strength
    planted = replace(planted, directions=directions)
    crosscoder = planted.crosscoder()
    if shrunken:
        with torch.no_grad():
            crosscoder.W_dec[:, 0] = 0
    generator = torch.Generator().manual_seed(0)
    codes = planted.codes(4_096, generator)
    x = planted.activations(codes, generator).transpose(0, 1)
    decompositions = [replace(part, codes=Codes.from_dense(codes)) for part in crosscoder.decompose(x)]
    table = presence_test(crosscoder, decompositions)
    early = table[table.revision == "c0"]
    assert (early.presence == answer).mean() >= 0.9
    assert early.share.mean() == pytest.approx(strength, abs=0.02)


def test_a_direction_that_a_twin_writes_is_absent_but_written_by_others():
    axis = torch.tensor([1.0, 0.0, 0.0, 0.0])
    crosscoder = CrossCoder(Origin("mine", ("early", "late"), Site(0), 4), 2)
    with torch.no_grad():
        crosscoder.W_dec.zero_()
        crosscoder.W_dec[0, 1], crosscoder.W_dec[1, 0] = axis, axis
        crosscoder.W_enc.zero_()
        crosscoder.W_enc[1, 0] = 1
    generator = torch.Generator().manual_seed(0)
    strength = torch.rand(600, generator=generator) * (torch.rand(600, generator=generator) < 0.5)
    x = strength.reshape(1, -1, 1) * axis + 0.01 * torch.randn(2, 600, 4, generator=generator)
    table = presence_test(crosscoder, crosscoder.decompose(x), features=[0]).set_index("revision")
    assert table.presence.to_dict() == {"early": "absent", "late": "present"}
    assert table.written_by_others.to_dict() == {"early": True, "late": False}
    assert table.activation_share["early"] == pytest.approx(1, abs=0.05)


def test_a_feature_that_fires_in_few_sequences_is_undecided(crosscoder: CrossCoder):
    x = torch.randn(3, 240, 6, generator=torch.Generator().manual_seed(0))
    decompositions = crosscoder.decompose(x)
    table = presence_test(crosscoder, decompositions, sequence_of_token=torch.arange(240) // 30)
    assert set(table.presence) == {"undecided"}
    assert table.q.isna().all()


def test_recovery_of_weakly_shared_features_by_the_test():
    planted = plant(40, 3, 128, weak=0.5, density=3.0, noise=0.01)
    crosscoder = planted.crosscoder()
    with torch.no_grad():
        crosscoder.b_enc[:] = -0.7
    scores = recovery(planted, crosscoder, n_tokens=8_192).set_index(["by", "class"])
    assert scores.recall["decoder norms", "shared"] == 0.5
    for name in ("precision", "recall"):
        assert scores.loc["test of presence", name].min() >= 0.9, name


def test_bad_input_is_one_sentence(crosscoder: CrossCoder):
    decompositions = crosscoder.decompose(torch.randn(3, 50, 6))
    with pytest.raises(CrosscoderError, match="at 2 checkpoints into 5 features do not fit a crosscoder of 3 and 5"):
        presence_test(crosscoder, decompositions[:2])
    with pytest.raises(CrosscoderError, match="There is no feature 5: the crosscoder has 0 to 4"):
        presence_test(crosscoder, decompositions, features=[5])
    with pytest.raises(CrosscoderError, match=r"between 0 and 1, not 1\.5"):
        presence_test(crosscoder, decompositions, minimum=1.5)
    with pytest.raises(CrosscoderError, match=r"level of the test of presence is between 0 and 1, not 0\.0"):
        presence_test(crosscoder, decompositions, level=0.0)
    with pytest.raises(CrosscoderError, match="Sequences of 3 tokens do not fit codes of 50"):
        presence_test(crosscoder, decompositions, sequence_of_token=torch.arange(3))
