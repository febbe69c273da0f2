"""Rotation, dimensionality and onsets of decoders, against loops over features and checkpoints."""

from __future__ import annotations

import math

import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.evolution import dimensionality
from crosstime.evolution import rotation as rotation_module
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.evolution.dimensionality import feature_dimensionality
from crosstime.evolution.rotation import decoder_cosines, rotation
from interventions import Site

REVISIONS = ("step0", "step8", "step64", "main")


def random_directions(n_features: int = 40, n_checkpoints: int = 4, width: int = 12) -> torch.Tensor:
    return torch.randn(n_features, n_checkpoints, width, generator=torch.Generator().manual_seed(0))


def crosscoder(directions: torch.Tensor) -> CrossCoder:
    crosscoder = CrossCoder(Origin("mine", REVISIONS, Site(0), directions.shape[2]), len(directions))
    with torch.no_grad():
        crosscoder.W_dec.copy_(directions)
    return crosscoder


def turned(degrees: list[float], norms: list[float]) -> torch.Tensor:
    """One feature in a plane at given angles."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return (torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor(norms).unsqueeze(1)).unsqueeze(0)


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_cosines_and_angles_are_those_of_a_loop(monkeypatch, chunk: int):
    monkeypatch.setattr(rotation_module, "CHUNK", chunk)
    directions = random_directions()
    angles = rotation(directions)
    expected = torch.nn.functional.cosine_similarity(directions.unsqueeze(1), directions.unsqueeze(2), dim=-1)
    torch.testing.assert_close(decoder_cosines(directions), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(angles.cosine, expected.double().mean(0), atol=1e-6, rtol=0)
    for feature in range(3):
        for step in range(3):
            a, b = directions[feature, step].tolist(), directions[feature, step + 1].tolist()
            inner = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
            assert angles.steps[feature, step].item() == pytest.approx(math.degrees(math.acos(inner)), abs=1e-3)
    assert (angles.count == len(directions)).all()


def test_the_turning_point_is_the_step_of_the_largest_angle():
    angles = rotation(torch.cat([turned([0, 10, 70, 75], [1, 1, 1, 1]), turned([0, 50, 60, 62], [1, 2, 3, 4])]))
    assert angles.steps.round().tolist() == [[10, 60, 5], [50, 10, 2]]
    assert angles.turning.tolist() == [1, 0]
    assert angles.total.tolist() == pytest.approx([75, 62], abs=0.1)
    assert angles.shares.tolist() == pytest.approx([60 / 137, 70 / 137, 7 / 137], abs=1e-3)


def test_directions_of_an_absent_feature_give_no_angle():
    angles = rotation(turned([0, 90, 0, 5], [1, 1e-3, 1, 1]), torch.tensor([[True, False, True, True]]))
    assert angles.steps.isnan().tolist() == [[True, True, False]]
    assert angles.turning.tolist() == [2]
    assert angles.cosine[0, 2] == pytest.approx(1)
    assert angles.cosine[0, 1].isnan()
    assert rotation(torch.zeros(1, 2, 3)).turning.tolist() == [-1]


@pytest.mark.parametrize(("chunk", "block"), [(24, 5), (1 << 22, 384)])
def test_dimensionality_is_that_of_all_pairs(monkeypatch, chunk: int, block: int):
    monkeypatch.setattr(dimensionality, "CHUNK", chunk)
    monkeypatch.setattr(dimensionality, "BLOCK", block)
    directions = random_directions()
    dimensions = feature_dimensionality(directions)
    for c in range(4):
        w = directions[:, c].double()
        unit = w / w.norm(dim=1, keepdim=True)
        expected = w.square().sum(1) / (w @ unit.T).square().sum(1)
        torch.testing.assert_close(dimensions[:, c].double(), expected, atol=0, rtol=1e-4)
        assert dimensions[:, c].sum() <= 12 + 1e-4


def test_absent_features_take_no_dimensions_from_others():
    directions = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).unsqueeze(1)
    presence = torch.tensor([[True], [False], [True]])
    assert feature_dimensionality(directions).squeeze(1).tolist() == [0.5, 0.5, 1.0]
    assert feature_dimensionality(directions, presence).squeeze(1).tolist() == [1.0, 0.0, 1.0]


def test_onset_peak_and_persistence_are_read_from_the_norms():
    norms = torch.tensor([[0.0, 1.0, 2.0, 1.5], [3.0, 1.0, 0.2, 0.1], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    base = torch.nn.functional.normalize(random_directions(4, 1), dim=-1)
    tables = decoder_evolution(crosscoder(base * norms.unsqueeze(-1)), fraction=0.5)
    table = tables["evolution"]
    assert table.onset.tolist()[:3] == ["step8", "step0", "step0"]
    assert table.peak.tolist()[:3] == ["step64", "step0", "step0"]
    assert table.persistence.tolist()[:3] == pytest.approx([1.0, 0.25, 0.5])
    assert table.norm.tolist() == pytest.approx([2.0, 3.0, 1.0, 0.0])
    assert table.label.tolist() == [
        "emerges at step8",
        "discontinued after step0",
        "intermittent from step0 to step64",
        "never",
    ]
    assert table[["onset", "peak", "persistence"]].iloc[3].isna().all()
    assert tables["dimensionality"].alive.tolist() == [2, 1, 2, 1]


def test_tables_of_rotation_name_the_steps():
    tables = decoder_evolution(crosscoder(torch.cat([turned([0, 10, 70, 75], [1, 1, 1, 1])])))
    steps = tables["rotation_steps"]
    assert steps.revision.tolist() == ["step8", "step64", "main"]
    assert steps.previous.tolist() == ["step0", "step8", "step64"]
    assert steps.degrees.tolist() == pytest.approx([10, 60, 5], abs=0.1)
    assert steps.turning.tolist() == [0, 1, 0]
    assert tables["evolution"].turning_point[0] == "step64"
    table = tables["rotation"].set_index(["revision", "other"])
    assert table.cosine["step0", "step8"] == pytest.approx(math.cos(math.radians(10)), abs=1e-5)
    assert table.cosine["step0", "step8"] == table.cosine["step8", "step0"]
    assert table.loc["main", "main"].tolist() == pytest.approx([1.0, 1.0])


def test_folding_changes_no_table():
    unfolded = CrossCoder(Origin("mine", REVISIONS, Site(0), 12), 40, torch.tensor([1.0, 0.1, 5.0, 2.0]))
    with torch.no_grad():
        unfolded.W_dec.copy_(random_directions())
    for plain, folded in zip(
        decoder_evolution(unfolded).values(), decoder_evolution(unfolded.fold()).values(), strict=True
    ):
        for column in plain:
            if plain[column].dtype.kind == "f":
                assert folded[column].to_numpy() == pytest.approx(plain[column].to_numpy(), rel=1e-3, nan_ok=True)
            else:
                assert folded[column].tolist() == plain[column].tolist()
