"""Densities, skewed goals, marginal matching and the filter of bonuses: TB18 to TB20 by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import coverage
from hindsight_rl.maths.posterior import log_partition

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
ROWS = torch.tensor([0] * 7 + [1] * 2 + [2])  # ten rows drawn from P


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def skewed(alpha: float) -> Tensor:
    """Return the distribution of three places whose rows are drawn by their weights."""
    weight = coverage.skew_weight(P.log()[ROWS], alpha=alpha)
    return torch.zeros(3, dtype=torch.float64).index_add(0, ROWS, weight) / len(ROWS)


def entropy(share: Tensor) -> float:
    return -torch.special.xlogy(share, share).sum().item()


# --- Skew-Fit -------------------------------------------------------------------------------------


def test_skew_weights_by_hand() -> None:
    weight = coverage.skew_weight(P.log()[ROWS], alpha=-0.5)
    assert_close(weight[[0, 7, 9]], f64(0.746971, 1.397454, 1.976298), atol=2e-6, rtol=0)
    assert weight.mean().item() == pytest.approx(1.0)


def test_skewed_goals_by_hand() -> None:
    assert_close(skewed(0.0), P)
    assert_close(skewed(-0.5), f64(0.522879, 0.279491, 0.197630), atol=2e-6, rtol=0)
    assert_close(skewed(-1.0), f64(1 / 3, 1 / 3, 1 / 3))


def test_entropy_rises_and_rests_where_all_are_alike() -> None:
    found = [entropy(skewed(alpha)) for alpha in (0.0, -0.5, -1.0)]
    assert found == pytest.approx([0.801819, 1.015757, 1.098612], abs=2e-6)
    even = coverage.skew_weight(torch.full((5,), -2.0), alpha=-0.7)
    assert_close(even, torch.ones(5))


def test_skew_weight_slope() -> None:
    """Two rows, w = 2 softmax(alpha l): at equal l the slope of w_0 by l_0 is alpha / 2."""
    log_density = f64(0.0, 0.0).requires_grad_()
    coverage.skew_weight(log_density, alpha=-0.5)[0].backward()
    assert_close(log_density.grad, f64(-0.25, 0.25))


def test_log_densities_far_below_zero_overflow_nothing() -> None:
    weight = coverage.skew_weight(torch.tensor([-900.0, -900.0]), alpha=-1.0)
    assert_close(weight, torch.ones(2))


def test_faulty_alpha_is_refused() -> None:
    for alpha in (0.1, -1.1):
        with pytest.raises(ValueError, match=r"alpha is .*, it must lie in \[-1, 0\]"):
            coverage.skew_weight(P.log(), alpha=alpha)


# --- densities ------------------------------------------------------------------------------------


def test_likelihoods_are_averaged_not_their_logarithms() -> None:
    """Log-weights -1 and -3: -1.566219; their mean, -2, is a bound and too low."""
    assert log_partition(f64(-1.0, -3.0)[:, None]).item() == pytest.approx(-1.566219, abs=2e-6)


def test_kernel_density_by_hand() -> None:
    """Centres 0 and 2, bandwidth 1, at 0: log( (1 + exp(-2)) / 2 ) - log sqrt(2 pi)."""
    value = f64(0.0)[:, None].requires_grad_()
    centre = f64(0.0, 2.0)[:, None]
    found = coverage.normal_kernel_log_density(value, centre, f64(1.0))
    root = 0.5 * math.log(2 * math.pi)
    assert found.item() == pytest.approx(math.log((1 + math.exp(-2)) / 2) - root)
    found.sum().backward()  # 2 exp(-2) / (1 + exp(-2)), towards the centre at 2
    assert value.grad.item() == pytest.approx(2 * math.exp(-2) / (1 + math.exp(-2)))


def test_kernel_density_has_the_unit_of_its_volume() -> None:
    """In two numbers at twice the unit the density is a quarter."""
    value, centre = torch.randn(5, 2, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64)
    band = f64(0.5, 0.7)
    one = coverage.normal_kernel_log_density(value, centre, band)
    two = coverage.normal_kernel_log_density(2 * value, 2 * centre, 2 * band)
    assert_close(two, one - math.log(4))


def test_blocks_of_a_large_log_are_one_density(monkeypatch: pytest.MonkeyPatch) -> None:
    value, centre = torch.randn(50, 2), torch.randn(9, 2)
    whole = coverage.normal_kernel_log_density(value, centre, torch.ones(2))
    monkeypatch.setattr(coverage, "_TOGETHER", 20)
    assert_close(coverage.normal_kernel_log_density(value, centre, torch.ones(2)), whole)


def test_scott_bandwidth_and_its_floor() -> None:
    """Spread 1 of 16 rows of one number: 16^(-1/5); a constant number has the floor."""
    value = torch.stack([f64(*[-1.0, 1.0] * 8), f64(*[3.0] * 16)], dim=1)
    found = coverage.scott_bandwidth(value, floor=0.01)
    assert_close(found, f64(16 ** (-1 / 6), 0.01))


# --- state marginal matching ----------------------------------------------------------------------


def test_fictitious_play_matches_the_target_and_its_last_policy_does_not() -> None:
    """Two places, p* = (.7, .3), counts (1, 0): each policy goes where the reward is largest."""
    log_target, count, visited = f64(0.7, 0.3).log(), f64(1.0, 0.0), []
    for _ in range(9):
        reward = coverage.marginal_reward(log_target, (count / count.sum()).log())
        visited.append(int(reward.argmax()))
        count[visited[-1]] += 1.0
    assert visited == [1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert count.tolist() == [7.0, 3.0]


def test_marginal_reward_has_a_floor_and_a_slope() -> None:
    log_density = f64(-1.0, -50.0).requires_grad_()
    found = coverage.marginal_reward(f64(0.0, 0.0), log_density)
    assert found.tolist() == [1.0, 20.0]
    found.sum().backward()
    assert log_density.grad.tolist() == [-1.0, 0.0]


# --- the filter of bonuses ------------------------------------------------------------------------


def test_discounted_sums_by_hand() -> None:
    """Bonuses 1, 2, 3: 1, 2.99, 5.9601; their population spread scales them to .490656, ..."""
    bonus, first = f64(1.0, 2.0, 3.0), torch.tensor([True, False, False])
    sums = coverage.discounted_sums(bonus, first, discount=0.99)
    assert_close(sums, f64(1.0, 2.99, 5.9601))
    spread = sums.std(correction=0)
    assert spread.item() == pytest.approx(2.038087, abs=2e-6)
    assert_close(bonus / spread, f64(0.490656, 0.981312, 1.471969), atol=2e-6, rtol=0)


def test_sums_run_along_time_and_not_into_the_next_episode() -> None:
    bonus, first = f64(1.0, 2.0, 3.0, 4.0), torch.tensor([True, False, True, False])
    found = coverage.discounted_sums(bonus, first, discount=0.5)
    assert found.tolist() == [1.0, 2.5, 3.0, 5.5]
