from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from interventions import Bootstrap, InterventionError, bootstrap_interval, interval, resampled_means
from interventions.bootstrap import resample_counts


def looped_means(values: torch.Tensor, resamples: int, seed: int) -> torch.Tensor:
    """Write out every resample as the list of prompts that it draws, and average their values."""
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)))
        resample = [values[index].double() for index, count in enumerate(counts) for _ in range(count)]
        means.append(torch.stack(resample).mean(0))
    return torch.stack(means)


def test_means_are_those_of_prompts_drawn_with_replacement():
    values = torch.randn(13, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resampled_means(values, Bootstrap(resamples=40, seed=7)), looped_means(values, 40, 7))


def test_chunks_of_resamples_continue_the_same_draws():
    values = torch.arange(1 << 15, dtype=torch.float32)  # 128 resamples in a chunk
    means = resampled_means(values, Bootstrap(resamples=130, seed=3))
    generator = np.random.default_rng(3)
    counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=130)
    torch.testing.assert_close(
        means, torch.from_numpy(counts.astype(np.float64) @ values.double().numpy() / len(values))
    )


@pytest.mark.parametrize("seed", [0, 1, 2026])
@pytest.mark.parametrize("most_counts", [1 << 22, 40], ids=["at once", "in chunks"])
def test_counts_are_numpys_multinomial_draws_bit_for_bit(monkeypatch, seed: int, most_counts: int):
    monkeypatch.setattr("interventions.bootstrap.MOST_COUNTS", most_counts)
    options, shares = Bootstrap(resamples=25, seed=seed), np.full(11, 1 / 11)
    np.testing.assert_array_equal(
        resample_counts(11, options), np.random.default_rng(seed).multinomial(11, shares, size=25)
    )
    for stream in (0, 1):
        np.testing.assert_array_equal(
            resample_counts(11, options, stream=stream),
            np.random.default_rng([seed, stream]).multinomial(11, shares, size=25),
        )
    # Means, which are those of the draws, have the same bits as a product with all of them
    values = torch.randn(11, 3, generator=torch.Generator().manual_seed(seed)).double()
    counts = torch.from_numpy(np.random.default_rng(seed).multinomial(11, shares, size=25))
    if most_counts > 25 * 11:
        assert torch.equal(resampled_means(values, options), counts.double() @ values / 11)


def test_the_same_seed_draws_the_same_prompts_for_other_values():
    a = torch.randn(20, generator=torch.Generator().manual_seed(1))
    b = torch.randn(20, generator=torch.Generator().manual_seed(2))
    together = resampled_means(torch.stack([a, b], 1), Bootstrap(resamples=50, seed=4))
    torch.testing.assert_close(together[:, 0], resampled_means(a, Bootstrap(resamples=50, seed=4)))
    torch.testing.assert_close(together[:, 1], resampled_means(b, Bootstrap(resamples=50, seed=4)))
    assert not torch.equal(
        resampled_means(a, Bootstrap(resamples=50, seed=4)), resampled_means(a, Bootstrap(resamples=50, seed=5))
    )


def test_global_random_state_is_neither_used_nor_changed():
    values = torch.randn(20, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    first = resampled_means(values, Bootstrap(resamples=20))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    second = resampled_means(values, Bootstrap(resamples=20))
    torch.set_rng_state(before)
    assert torch.equal(first, second)


def test_the_interval_agrees_with_scipy():
    values = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.0, size=80))
    low, high = bootstrap_interval(values, Bootstrap(seed=1))
    expected = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = expected.high - expected.low
    assert float(low) == pytest.approx(expected.low, abs=0.03 * width)
    assert float(high) == pytest.approx(expected.high, abs=0.03 * width)


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_the_interval_of_a_normal_mean_is_as_wide_as_theory_says(level):
    n = 400
    values = torch.from_numpy(np.random.default_rng(0).normal(5.0, 2.0, size=n))
    low, high = bootstrap_interval(values, Bootstrap(level=level))
    expected = 2 * scipy.stats.norm.ppf((1 + level) / 2) * float(values.std(correction=0)) / n**0.5
    assert float(high - low) == pytest.approx(expected, rel=0.04)
    assert float(low + high) / 2 == pytest.approx(float(values.mean()), abs=0.02)


def test_a_statistic_is_taken_of_every_resample():
    values = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) + 3
    low, high = bootstrap_interval(values, Bootstrap(500), statistic=lambda means: means[:, 0] / means.sum(1))
    ratios = np.array([float(mean[0] / mean.sum()) for mean in looped_means(values, 500, 0)])
    assert [float(low), float(high)] == pytest.approx(list(np.quantile(ratios, [0.025, 0.975])))


def test_resamples_without_a_value_are_left_out_and_nothing_defined_gives_nan():
    samples = torch.stack([torch.arange(101.0), torch.full((101,), torch.nan), torch.arange(101.0)], 1)
    samples[::2, 2] = torch.nan  # 1, 3, ... 99 stay
    low, high = interval(samples, Bootstrap(level=0.9))
    assert float(low[0]) == pytest.approx(5.0)
    assert float(high[0]) == pytest.approx(95.0)
    assert bool(low[1].isnan() & high[1].isnan())
    assert float(low[2]) == pytest.approx(1 + 0.05 * 98)
    assert float(high[2]) == pytest.approx(99 - 0.05 * 98)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, "at least one resample, not 0"),
        ({"seed": -1}, "must not be negative, but is -1"),
        ({"level": 1.0}, r"between 0 and 1, not 1\.0"),
    ],
)
def test_a_bootstrap_refuses_what_it_cannot_do(options, message):
    with pytest.raises(InterventionError, match=message):
        Bootstrap(**options)
