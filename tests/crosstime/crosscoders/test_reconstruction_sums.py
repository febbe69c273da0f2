"""Measures of reconstruction from sums over chunks, against loops over all tokens."""

from __future__ import annotations

import pytest
import torch

from crosstime.crosscoders import reconstruction_sums
from crosstime.crosscoders.reconstruction_sums import RECONSTRUCTION, ReconstructionSums
from crosstime.suites.token_norms import token_norms

T, D, F = 20, 5, 6


def activations(seed: int) -> torch.Tensor:
    return torch.randn(T, D, generator=torch.Generator().manual_seed(seed))


def measures(x: torch.Tensor, reconstruction: torch.Tensor, features: list[list[int]], chunk: int) -> dict[str, float]:
    sums = ReconstructionSums(token_norms(x), F)
    for start in range(0, T, chunk):
        rows = slice(start, start + chunk)
        firings = torch.tensor([feature for token in features[rows] for feature in token], dtype=torch.long)
        sums.add(x[rows], reconstruction[rows], firings)
    return sums.measures(scale=0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("chunk", [1, 7, T])
def test_measures_are_those_of_a_loop_in_any_number_of_chunks(monkeypatch, seed: int, chunk: int):
    monkeypatch.setattr(reconstruction_sums, "_CHUNK", 4)
    x = activations(seed)
    x[3] *= 200  # an outlier
    reconstruction = 0.8 * x + 0.1
    features = [[t % 3, 4][: t % 4] for t in range(T)]
    row = measures(x, reconstruction, features, chunk)
    assert tuple(row) == RECONSTRUCTION

    values, errors = x.double().tolist(), (x.double() - reconstruction.double()).tolist()
    for name, tokens in (("fve", range(T)), ("fve_without_outliers", [t for t in range(T) if t != 3])):
        mean = [sum(values[t][d] for t in tokens) / len(tokens) for d in range(D)]
        unexplained = sum(errors[t][d] ** 2 for t in tokens for d in range(D))
        variance = sum((values[t][d] - mean[d]) ** 2 for t in tokens for d in range(D))
        assert row[name] == pytest.approx(1 - unexplained / variance, abs=1e-6)
    assert row["error"] == pytest.approx(sum(0.25 * e * e for token in errors for e in token) / T)
    assert row["l0"] == sum(map(len, features)) / T
    firing = {feature for token in features for feature in token}
    assert (row["dead"], row["alive"], row["outliers"]) == (F - len(firing), len(firing) / F, 1)


def test_the_mean_explains_nothing_and_a_constant_has_no_variance():
    x = activations(0)
    nothing = [[] for _ in range(T)]
    assert measures(x, x.mean(0).expand_as(x), nothing, T)["fve"] == pytest.approx(0, abs=1e-6)
    constant = torch.ones(T, D)
    row = measures(constant, constant, nothing, T)
    assert row["fve"] != row["fve"]
    assert (row["error"], row["l0"], row["dead"]) == (0, 0, F)


def test_tokens_that_were_not_added_are_noticed():
    sums = ReconstructionSums(torch.ones(3), F)
    sums.add(torch.ones(2, D), torch.ones(2, D), torch.tensor([0]))
    with pytest.raises(ValueError, match="2 of 3 tokens were added"):
        sums.measures(1.0)
