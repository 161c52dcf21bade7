"""Prioritised draws: probabilities, weights and draws by hand and by counting."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.draws import counters, fine_uniform
from hindsight_rl.maths.priorities import (
    cumulative,
    drawn_by_priority,
    importance_weight,
    priority,
)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ERRORS = f64(0.1, 2, 0.5, 0)
SHARES = f64(0.103502, 0.624545, 0.271849, 0.000104)


def test_closed_form() -> None:
    """Exponent .6, floor 1e-6, beta .4: by the smallest priority, and N P unscaled."""
    found = priority(ERRORS, exponent=0.6)
    share = found / found.sum()
    torch.testing.assert_close(share, SHARES, rtol=0, atol=1e-6)
    unscaled = (4 * share) ** -0.4
    expected = f64(1.422973, 0.693347, 0.967041, 22.552656)
    torch.testing.assert_close(unscaled, expected, rtol=0, atol=2e-6)
    weight = importance_weight(found, found.min(), beta=0.4)
    torch.testing.assert_close(weight, f64(0.063096, 0.030743, 0.042879, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(weight, unscaled / unscaled.max())


def test_exponent_0_is_uniform_and_sign_does_not_matter() -> None:
    assert priority(ERRORS, exponent=0.0).tolist() == [1.0] * 4
    assert priority(-ERRORS, exponent=0.6).equal(priority(ERRORS, exponent=0.6))
    ones = torch.ones(4)
    assert importance_weight(ones, ones.min(), beta=0.7).tolist() == [1.0] * 4


def test_priorities_have_no_gradient() -> None:
    assert not priority(ERRORS.clone().requires_grad_(), exponent=0.6).requires_grad


def test_weights_of_beta_1_undo_the_draws() -> None:
    """Sum over rows of P w f is proportional to the mean of f, whatever f."""
    found = priority(ERRORS, exponent=0.6)
    share, weight = found / found.sum(), importance_weight(found, found.min(), beta=1.0)
    for number in (f64(1, 2, 3, 4), f64(-1, 0, 5, 0.5)):
        found_mean = (share * weight * number).sum() / (share * weight).sum()
        assert found_mean.item() == pytest.approx(number.mean().item())


def test_draws_by_counters_have_the_shares() -> None:
    """1e5 draws: every count within three standard deviations of N P."""
    count = 100_000
    counter = counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(count))
    index = drawn_by_priority(fine_uniform(counter), cumulative(priority(ERRORS, exponent=0.6)))
    counts = index.flatten().bincount(minlength=4)
    for found, share in zip(counts.tolist(), SHARES.tolist(), strict=True):
        assert abs(found - count * share) < 3.0 * math.sqrt(count * share * (1.0 - share))


def test_a_draw_is_the_inverse_of_the_cumulative_sum() -> None:
    """Priorities 1, 0, 3, 0: shares below a quarter are row 0, the others row 2."""
    reached = cumulative(f64(1, 0, 3, 0))
    share = f64(0, 0.2499999, 0.25, 0.7, math.nextafter(1.0, 0.0))
    assert drawn_by_priority(share, reached).tolist() == [0, 0, 2, 2, 2]
    assert drawn_by_priority(f64(1.0), reached).tolist() == [2]


def test_one_row_of_a_million_is_still_found() -> None:
    """Its share of 1e-7 lies below a step of float32 draws near 1."""
    priorities = torch.full((1_000_000,), 1.0)
    priorities[-1] = 0.1
    reached = cumulative(priorities)
    before = (reached[-2] / reached[-1]).item()
    share = f64(before - 1e-9, before + 2e-8)
    assert drawn_by_priority(share, reached).tolist() == [999_998, 999_999]
