"""Intervals by hand, and how often they cover."""

import itertools
import math

import pytest
import torch

from hindsight_rl.intervals import Interval
from hindsight_rl.maths.importance import Ratios, mean_of
from hindsight_rl.maths.intervals import (
    bootstrap,
    capped_lower_bound,
    chosen_cap,
    empirical_bernstein,
    hoeffding,
    percentile,
    resample,
    student,
    with_bias,
)

FIVE = torch.arange(5, dtype=torch.float64)


def test_bounds_of_five_numbers() -> None:
    low, high = student(mean_of(FIVE))
    assert (low, high) == (pytest.approx(2 - 1.963243, abs=1e-6), pytest.approx(3.963243, abs=1e-6))
    # One-sided at 95 % is two-sided at 90 %.
    assert student(mean_of(FIVE), 0.9).low == pytest.approx(0.492557, abs=1e-6)
    assert hoeffding(FIVE, 5.0) == pytest.approx(-0.736664, abs=1e-6)
    assert empirical_bernstein(FIVE, 5.0) == pytest.approx(-10.679877, abs=1e-6)
    assert capped_lower_bound(FIVE, 2.0) == pytest.approx(-3.990174, abs=1e-6)
    with pytest.raises(ValueError, match="no value below 0"):
        capped_lower_bound(FIVE - 1.0, 2.0)
    assert student(mean_of(FIVE[:1])) == Interval(-math.inf, math.inf)


def all_resamples(episodes: int) -> torch.Tensor:
    drawn = torch.tensor(list(itertools.product(range(episodes), repeat=episodes)))
    return torch.nn.functional.one_hot(drawn, episodes).sum(1).double()


def test_all_resamples_of_three() -> None:
    counts = all_resamples(3)
    values = mean_of(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)).value(counts)
    assert len(values) == 27
    assert float(values.mean()) == pytest.approx(1.666667, abs=1e-6)
    assert float(values.std(correction=0)) == pytest.approx(0.981307, abs=1e-6)
    assert percentile(values, 0.9) == (pytest.approx(1 / 3), pytest.approx(3.0))


def test_a_weighted_estimate_is_normalised_in_every_resample() -> None:
    rho = torch.tensor([[0.5], [2.0], [0.5]], dtype=torch.float64)
    returns = torch.tensor([[1.0], [3.0], [2.0]], dtype=torch.float64)
    estimate = Ratios(rho * returns, rho)
    assert float(estimate.value()) == pytest.approx(2.5)
    values = estimate.value(all_resamples(3))
    low, high = percentile(values, 0.9)
    assert (low, high) == (pytest.approx(4 / 3), pytest.approx(2.888889, abs=1e-6))
    assert (float(values.min()), float(values.max())) == (pytest.approx(1.0), pytest.approx(3.0))


def test_resamples_draw_every_episode_alike() -> None:
    counts = resample(4, torch.rand(5000, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(counts.sum(-1), torch.full((5000,), 4.0, dtype=torch.float64))
    torch.testing.assert_close(counts.mean(0), torch.ones(4).double(), rtol=0, atol=0.06)
    assert resample(4, torch.ones(1, 4)).tolist() == [[0.0, 0.0, 0.0, 4.0]]  # never out of range


def test_bca_moves_towards_the_long_tail() -> None:
    """Of a skewed sample; of a symmetric one it is the percentile interval but for a place."""
    draws = torch.rand(4000, 20, generator=torch.Generator().manual_seed(1))
    counts = resample(20, draws)
    skewed = mean_of(torch.linspace(0.0, 3.0, 20, dtype=torch.float64).exp())
    plain, moved = percentile(skewed.value(counts)), bootstrap(skewed, counts)
    assert moved.low > plain.low and moved.high > plain.high
    even = mean_of(torch.linspace(-1.0, 1.0, 20, dtype=torch.float64))
    plain, moved = percentile(even.value(counts)), bootstrap(even, counts)
    assert moved.low == pytest.approx(plain.low, abs=0.02)
    assert moved.high == pytest.approx(plain.high, abs=0.02)
    alike = mean_of(torch.full((20,), 2.0, dtype=torch.float64))
    assert bootstrap(alike, counts) == (2.0, 2.0)


def test_resamples_without_any_weight_are_left_out() -> None:
    weight = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    estimate = Ratios(3.0 * weight, weight)
    counts = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert bootstrap(estimate, counts) == (3.0, 3.0)
    assert all(map(math.isnan, percentile(torch.full((2,), math.nan))))


def test_coverage_of_gaussian_means() -> None:
    """Student covers 95 %, the bootstrap of 15 episodes somewhat less: measured over 1,000."""
    random = torch.Generator().manual_seed(2)
    samples = torch.randn(1000, 15, generator=random, dtype=torch.float64)
    counts = resample(15, torch.rand(500, 15, generator=random))
    covered = {"student": 0, "bootstrap": 0}
    for sample in samples:
        estimate = mean_of(sample)
        for name, found in (
            ("student", student(estimate)),
            ("bootstrap", bootstrap(estimate, counts)),
        ):
            covered[name] += found.low <= 0.0 <= found.high
    assert 930 <= covered["student"] <= 970  # 950 and three standard errors
    assert 880 <= covered["bootstrap"] <= 950


def test_the_cap_with_the_highest_promise() -> None:
    """Of 0, 1 and 100: capped at 1 the mean is known, at 100 it is not."""
    values = torch.tensor([0.0, 1.0, 1.0, 1.0, 100.0])
    # Of 20 others: 0.8 - 0.27 - 0.45 above 0, and 20.6 - 27 below.
    assert chosen_cap(values, 20) == 1.0
    # Of many others, the rare large ones are worth keeping: 20.6 - 3.8 - 0.9.
    assert chosen_cap(values, 1000) == 100.0
    assert chosen_cap(torch.zeros(3), 10) == 1.0


def test_a_bias_is_on_one_side() -> None:
    assert with_bias(Interval(1.0, 2.0), 0.5) == (0.5, 2.0)
    assert with_bias(Interval(1.0, 2.0), -0.5) == (1.0, 2.5)
    assert with_bias(Interval(1.0, 2.0), 0.0) == (1.0, 2.0)
