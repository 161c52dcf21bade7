"""Shares of an expert round by round, and what mistakes cost: T28."""

import pytest
import torch

from hindsight_rl.maths.mixing import (
    cost_without_recovery,
    linear_share,
    listed_share,
    power_share,
)


def test_shares_of_the_rounds() -> None:
    """Linear over 15 rounds; [1, 0] holds its last value; powers of a half, and 0^0 = 1."""
    linear = [linear_share(15, i) for i in (0, 1, 7, 14, 15, 40)]
    assert linear == pytest.approx([1, 0.933333, 0.533333, 0.066667, 0, 0], abs=2e-6)
    assert [listed_share([1.0, 0.0], i) for i in range(4)] == [1, 0, 0, 0]
    assert [listed_share([1.0, 0.5, 0.25], i) for i in (1, 2, 9)] == [0.5, 0.25, 0.25]
    assert [power_share(0.5, i) for i in range(4)] == [1, 0.5, 0.25, 0.125]
    assert [power_share(0.0, i) for i in range(3)] == [1, 0, 0]


def test_cost_of_a_mistake_without_recovery() -> None:
    """T = 100, epsilon .01: 37.237201, below the bound 50.5; with recovery it would be 1.

    The derivative is the sum of t (1 - epsilon)^(t-1): T (T + 1) / 2 = 5050 at 0, where the bound
    touches, and 2679.353175 at .01 by the closed form (1 - (T + 1) q^T + T q^(T+1)) / (1 - q)^2.
    """
    error = torch.tensor([0.01, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    cost = cost_without_recovery(error, 100)
    torch.testing.assert_close(
        cost, torch.tensor([37.237201, 0.0, 100.0], dtype=torch.float64), atol=2e-6, rtol=0
    )
    (slope,) = torch.autograd.grad(cost.sum(), error)
    q, horizon = 0.99, 100
    closed = (1 - (horizon + 1) * q**horizon + horizon * q ** (horizon + 1)) / (1 - q) ** 2
    expected = torch.tensor([closed, 5050.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(slope, expected, atol=1e-6, rtol=1e-9)
    assert closed == pytest.approx(2679.353175, abs=2e-6)


def test_the_chain_itself_costs_that() -> None:
    """Two states, on and off the path, enumerated: the same number step by step."""
    off, total = 0.0, 0.0
    for _ in range(100):
        off += (1.0 - off) * 0.01
        total += off
    assert float(cost_without_recovery(torch.tensor(0.01, dtype=torch.float64), 100)) == (
        pytest.approx(total, rel=1e-12)
    )
