"""Mixtures: closed form T20, the floor of a spread, and how many components are in use."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.losses import mixture_log_prob, normal_log_prob
from hindsight_rl.maths.mixtures import components_used, log_density_at_means, soft_floor

ATOL = 2e-6


def t20() -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, means and log-spreads of T20: weights .6, .4, means 0, 1, spreads 1, .1."""
    parts = ([0.6, 0.4], [[0.0], [1.0]], [[1.0], [0.1]])
    weight, mean, std = (torch.tensor(part, dtype=torch.float64) for part in parts)
    return weight.log(), mean, std.log()


def test_densities_of_t20() -> None:
    """At the means .239365 and 1.740952; at the mixture's mean, .4, less than at either."""
    logits, mean, log_std = t20()
    found = log_density_at_means(logits, mean, log_std).exp()
    expected = torch.tensor([0.239365, 1.740952], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)
    between = mixture_log_prob(torch.tensor([0.4], dtype=torch.float64), logits, mean, log_std)
    assert between.exp().item() == pytest.approx(0.220962, abs=ATOL)


def test_densities_of_several_rows_are_those_of_each() -> None:
    logits, mean, log_std = t20()
    rows = [part.expand(2, 3, *part.shape) for part in (logits, mean, log_std)]
    found = log_density_at_means(*rows)
    assert found.shape == (2, 3, 2)
    torch.testing.assert_close(found[1, 2], log_density_at_means(logits, mean, log_std))


@pytest.mark.parametrize(("std", "nll"), [(1e-4, -8.291402), (1e-2, -3.686232), (0.1, -1.383647)])
def test_an_exact_fit_costs_what_its_spread_says(std: float, nll: float) -> None:
    """T20, per dimension: log(sigma sqrt(2 pi)) without a bound below as sigma falls."""
    zero = torch.zeros(1, dtype=torch.float64)
    log_std = torch.full((1,), math.log(std), dtype=torch.float64)
    assert -normal_log_prob(zero, zero, log_std).item() == pytest.approx(nll, abs=ATOL)


def test_floor_is_added_and_passes_the_gradient() -> None:
    """exp(-10) + .01 = .010045; the slope of its log is the share of the exponential, .00452."""
    raw = torch.tensor([-10.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    log_std = soft_floor(raw, log_floor=math.log(0.01))
    std = [0.01 + math.exp(value) for value in (-10.0, 0.0, 1.0)]
    torch.testing.assert_close(log_std.exp(), torch.tensor(std, dtype=torch.float64))
    log_std.sum().backward()
    slope = [math.exp(value) / found for value, found in zip((-10.0, 0.0, 1.0), std, strict=True)]
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, torch.tensor(slope, dtype=torch.float64))
    far = soft_floor(torch.tensor([-1e4, -math.inf]), log_floor=math.log(0.01))
    torch.testing.assert_close(far, torch.full((2,), math.log(0.01)))


def test_components_in_use() -> None:
    """All alike: M. One: 1. Two rows with a component each: 2. Weights .5, .25, .25: 2^1.5."""
    assert components_used(torch.zeros(7, 5)).item() == pytest.approx(5.0)
    one = torch.tensor([[100.0, 0.0, 0.0]])
    assert components_used(one).item() == pytest.approx(1.0)
    each = torch.tensor([[100.0, 0.0, 0.0], [0.0, 100.0, 0.0]])
    assert components_used(each).item() == pytest.approx(2.0)
    shared = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert components_used(shared.expand(2, 3, 3)).item() == pytest.approx(2**1.5)
    assert components_used(torch.zeros(4)).item() == pytest.approx(4.0)
