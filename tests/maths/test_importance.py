"""Importance sampling by hand: episodes of two steps, early ends, wide policies."""

import math
import re

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.doubly_robust import (
    doubly_robust,
    folds,
    weighted_doubly_robust,
)
from hindsight_rl.maths.executed import clipped_normal
from hindsight_rl.maths.importance import (
    Ratios,
    cumulative_log_ratio,
    effective_sample_size,
    first_odd_mean,
    ordinary,
    per_decision,
    share_of_the_heaviest,
    step_weighted,
    weighted,
)
from hindsight_rl.maths.intervals import student
from hindsight_rl.maths.magic import magic, magic_weights

DISCOUNT = 0.9


def doubles(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture
def bandit() -> tuple[Tensor, Tensor]:
    """Log-ratios and rewards of (a0, a1) and (a1, a0): pi_b even, pi_e(a0) = 0.8, r = 1 for a0."""
    action = torch.tensor([[0, 1], [1, 0]])
    target = doubles(0.8, 0.2)[action].log()
    behavior = torch.full((2, 2), math.log(0.5), dtype=torch.float64)
    valid = torch.ones(2, 2, dtype=torch.bool)
    return cumulative_log_ratio(target, behavior, valid), (action == 0).double()


def value(found: Ratios) -> float:
    return float(found.value())


def test_ratios_and_their_estimates(bandit: tuple[Tensor, Tensor]) -> None:
    log_ratio, reward = bandit
    torch.testing.assert_close(log_ratio.exp(), doubles([1.6, 0.64], [0.4, 0.64]))
    assert value(ordinary(log_ratio, reward, discount=DISCOUNT)) == pytest.approx(0.608)
    per = per_decision(log_ratio, reward, discount=DISCOUNT)
    assert value(per) == pytest.approx(1.088)
    assert value(weighted(log_ratio, reward, discount=DISCOUNT)) == pytest.approx(0.95)
    assert value(step_weighted(log_ratio, reward, discount=DISCOUNT)) == pytest.approx(1.25)
    # 1.6 is capped at 1: (1 + 0.9 * 0.64) / 2.
    capped = per_decision(log_ratio, reward, discount=DISCOUNT, cap=1.0)
    assert value(capped) == pytest.approx(0.788)
    low, high = student(per)
    assert (high - low) / 2 == pytest.approx(6.505577, abs=1e-5)
    assert float(per.influence().std()) == pytest.approx(0.724077, abs=1e-6)


def test_effective_sample_size(bandit: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(
        effective_sample_size(bandit[0]), doubles(1.470588, 2.0), rtol=0, atol=1e-6
    )
    assert float(effective_sample_size(torch.full((3,), -torch.inf))) == 0.0
    # Ratios beyond what a double holds still compare.
    assert float(effective_sample_size(doubles(900.0, 900.0))) == pytest.approx(2.0)
    assert share_of_the_heaviest(doubles(0.7, 0.2, 0.1).log()) == 2
    assert share_of_the_heaviest(torch.zeros(10)) == 9
    assert share_of_the_heaviest(torch.full((3,), -torch.inf)) == 0


@pytest.mark.parametrize("q", [0.0, 0.25, 7.0])
def test_doubly_robust(q: float, bandit: tuple[Tensor, Tensor]) -> None:
    """Constants: DR by hand, and WDR is the step-weighted estimate."""
    log_ratio, reward = bandit
    constant, v = torch.full((2, 2), q), torch.full((2, 3), q)
    v[:, -1] = 0.0
    found = doubly_robust(log_ratio, reward, constant, v, discount=DISCOUNT)
    expected = {0.0: [1.6, 0.576], 0.25: [1.666, 0.672]}
    if q in expected:
        torch.testing.assert_close(found.numerator[:, 0], doubles(*expected[q]))
    again = weighted_doubly_robust(log_ratio, reward, constant, v, discount=DISCOUNT)
    assert value(again) == pytest.approx(1.25)


def test_exact_values_are_right_in_every_episode(bandit: tuple[Tensor, Tensor]) -> None:
    log_ratio, reward = bandit
    # Q_1 = r, V_1 = 0.8; Q_0 = r + 0.9 * 0.8, V_0 = 1.52.
    q, v = reward + doubles(0.72, 0.0), doubles([1.52, 0.8, 0.0]).expand(2, 3)
    found = doubly_robust(log_ratio, reward, q, v, discount=DISCOUNT)
    torch.testing.assert_close(found.numerator[:, 0], doubles(1.52, 1.52))
    again = weighted_doubly_robust(log_ratio, reward, q, v, discount=DISCOUNT)
    assert value(again) == pytest.approx(1.52)
    parts = magic(log_ratio, reward, q, v, discount=DISCOUNT).parts().sum(0)
    torch.testing.assert_close(parts, doubles(1.52, 1.52, 1.52))


def test_partial_returns_and_the_way_magic_mixes_them(bandit: tuple[Tensor, Tensor]) -> None:
    log_ratio, reward = bandit
    q, v = torch.full((2, 2), 0.25), doubles([0.25, 0.25, 0.0]).expand(2, 3)
    parts = magic(log_ratio, reward, q, v, discount=DISCOUNT).parts()
    torch.testing.assert_close(parts.sum(0), doubles(0.25, 1.025, 1.25))
    covariance = 2 * torch.cov(parts[:, 1:].T)
    torch.testing.assert_close(
        covariance, doubles([0.616225, 0.262975], [0.262975, 0.112225]), rtol=0, atol=1e-6
    )
    # Without bias the model alone is best: it has no variance.
    torch.testing.assert_close(
        magic_weights(parts, 0.0, 2.0), doubles(1.0, 0.0, 0.0), rtol=0, atol=1e-4
    )
    # Errors (bias) 1 and 0, variances 0 and 1, uncorrelated: half each.
    far = torch.tensor([[0.5, 1.0], [0.5, 0.0]], dtype=torch.float64)
    assert float(2 * torch.cov(far.T)[1, 1]) == pytest.approx(1.0)
    mixed = magic_weights(far, 2.0, 3.0)
    # x'(Omega + bb')x with b = (-1, -1): the bias is the same, so that variance decides.
    torch.testing.assert_close(mixed, doubles(1.0, 0.0), rtol=0, atol=1e-6)
    mixed = magic_weights(far * doubles(2.0, 1.0), 1.0, 1.0)
    # b = (1, 0), Omega = diag(0, 1): x_0^2 + x_1^2.
    torch.testing.assert_close(mixed, doubles(0.5, 0.5), rtol=0, atol=1e-6)


def test_a_time_limit_keeps_the_value_behind_it() -> None:
    """One step of reward 1 and a value of 10 after it: 1 + 0.9 * 10 by both."""
    zero, q, v = torch.zeros(3, 1), torch.full((3, 1), 10.0), torch.full((3, 2), 10.0)
    for estimate in (doubly_robust, weighted_doubly_robust):
        found = estimate(zero, torch.ones(3, 1), q, v, discount=0.9)
        assert value(found) == pytest.approx(10.0)


# --- episodes of unequal length -------------------------------------------------------------------


def test_ratios_are_carried_on_behind_the_end() -> None:
    """a0 ends the episode, r = 1 a step, H = 2, pi_b even, pi_e(a0) = 0.2: 1.8, in expectation.

    Four episodes with the frequencies of pi_b: a0; a0; a1, a0; a1, a1.
    """
    action = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 1]])
    valid = torch.tensor([[1, 0], [1, 0], [1, 1], [1, 1]], dtype=torch.bool)
    target = doubles(0.2, 0.8)[action].log()
    behavior = torch.where(valid, math.log(0.5), torch.nan)  # what is not there is never read
    log_ratio = cumulative_log_ratio(target, behavior, valid)
    torch.testing.assert_close(log_ratio[:2].exp(), torch.full((2, 2), 0.4, dtype=torch.float64))
    reward = valid.double()
    assert value(step_weighted(log_ratio, reward, discount=1.0)) == pytest.approx(1.8)
    assert value(per_decision(log_ratio, reward, discount=1.0)) == pytest.approx(1.8)
    assert value(weighted(log_ratio, reward, discount=1.0)) == pytest.approx(1.8)


# --- continuous actions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "expected"), [(0.25, 1.064494), (0.5, 1.284025), (1.0, 2.718282)]
)
def test_second_moment_of_ratios_of_shifted_gaussians(distance: float, expected: float) -> None:
    """E rho^2 = exp(d^2) per step, by a sum over a fine grid of actions."""
    action = torch.linspace(-12.0, 12.0, 24_001, dtype=torch.float64)
    target = torch.distributions.Normal(distance, 1.0).log_prob(action)
    behavior = torch.distributions.Normal(0.0, 1.0).log_prob(action)
    valid = torch.ones(len(action), 1, dtype=torch.bool)
    log_ratio = cumulative_log_ratio(target[:, None], behavior[:, None], valid)[:, 0]
    second = torch.trapezoid((2 * log_ratio + behavior).exp(), action)
    assert float(second) == pytest.approx(expected, abs=1e-6)
    assert math.exp(0.5**2) ** 20 == pytest.approx(148.413, abs=1e-3)


def test_a_clipped_action_has_the_mass_of_a_tail() -> None:
    """Spread 0.5 around 0.9 and 0.5, executed 1, the bound: 0.420740 / 0.158655, not 1.616074."""
    low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, torch.inf])
    std = torch.full((2,), 0.5)
    at_bound, between = torch.tensor([[1.0, 0.3]]), torch.tensor([[0.999999, 0.3]])
    judged, recorded = torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.1])
    ratios = [
        (
            clipped_normal(action, judged, std, low, high)
            - clipped_normal(action, recorded, std, low, high)
        ).exp()
        for action in (at_bound, between)
    ]
    assert float(ratios[0]) == pytest.approx(2.651915, abs=1e-5)
    assert float(ratios[1]) == pytest.approx(1.616074, abs=1e-4)
    # Tails and density together are one.
    grid = torch.linspace(-1.0, 1.0, 20_001, dtype=torch.float64)[1:-1, None]
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    bounds = torch.tensor([-1.0]), torch.tensor([1.0])
    mean, spread = torch.tensor([0.5]), torch.tensor([0.5])
    inside = clipped_normal(grid, mean, spread, *bounds).exp()
    mass = torch.trapezoid(inside, grid[:, 0])
    mass = mass + clipped_normal(ends, mean, spread, *bounds).exp().sum()
    assert float(mass) == pytest.approx(1.0, abs=1e-4)


# --- arguments ------------------------------------------------------------------------------------


def test_an_action_without_a_chance_is_named() -> None:
    valid = torch.ones(2, 2, dtype=torch.bool)
    behavior = doubles([0.0, 0.0], [0.0, -torch.inf])
    message = "log-probabilities of step 1 of episode 1 are 0.0 (judged) and -inf (recorded)"
    with pytest.raises(ValueError, match=re.escape(message)):
        cumulative_log_ratio(torch.zeros(2, 2), behavior, valid)
    # The judged policy may never do what was done: the weight is 0.
    log_ratio = cumulative_log_ratio(behavior, torch.zeros(2, 2), valid)
    assert value(weighted(log_ratio, torch.eye(2), discount=1.0)) == 1.0
    with pytest.raises(ValueError, match="cap is 0"):
        ordinary(log_ratio, torch.eye(2), discount=1.0, cap=0.0)


def test_folds_are_equal_in_size() -> None:
    found = folds(7, 2, torch.tensor([0.3, 0.1, 0.9, 0.5, 0.2, 0.4, 0.6]))
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="2 folds of 1 episodes"):
        folds(1, 2, torch.zeros(1))


def test_weights_that_do_not_average_one() -> None:
    """Draws of a normal policy under its own probabilities, and under those of a wider one."""
    drawn = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    judged, behavior, wrong = (
        torch.distributions.Normal(mean, std).log_prob(drawn)
        for mean, std in ((0.1, 1.0), (0.0, 1.0), (0.0, 1.3))
    )
    valid = torch.ones(2000, 6, dtype=torch.bool)
    assert first_odd_mean(cumulative_log_ratio(judged, behavior, valid)) is None
    found = first_odd_mean(cumulative_log_ratio(judged, wrong, valid))
    assert found is not None and found.step == 0
    ratio = float((judged[:, 0] - wrong[:, 0]).exp().mean())
    assert found.mean == pytest.approx(ratio) and abs(ratio - 1.0) > 0.05
    # Of 20 episodes nothing can be said.
    few = cumulative_log_ratio(judged[:20], wrong[:20], valid[:20])
    assert first_odd_mean(few) is None
