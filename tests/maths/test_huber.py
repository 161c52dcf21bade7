"""Huber's loss by hand, and the one-sided one of self-imitation."""

import math

import torch

from hindsight_rl.maths.losses import huber_loss, lower_bound_loss


def test_huber_is_linear_beyond_its_limit() -> None:
    """An error of 3: half the square without a limit, and within 4; 2 (3 - 2 / 2) = 4 beyond 2.

    The slope is the error, and no more than the limit.
    """
    for limit, value, slope in (
        (None, 4.5, 3.0),
        (4.0, 4.5, 3.0),
        (2.0, 4.0, 2.0),
        (1.0, 2.5, 1.0),
    ):
        error = torch.tensor([3.0, -3.0], dtype=torch.float64, requires_grad=True)
        loss = huber_loss(error, limit=limit)
        assert loss.tolist() == [value, value]
        loss.sum().backward()
        assert error.grad is not None and error.grad.tolist() == [slope, -slope]


def test_lower_bound_loss_is_one_sided() -> None:
    """Advantages 1, -.5, 2: halves of squares 1, 0, 4; beyond a cap of 1 the last is 2 - 1/2."""
    for cap, values, slopes in (
        (math.inf, [0.5, 0, 2], [1, 0, 2]),
        (1.0, [0.5, 0, 1.5], [1, 0, 1]),
    ):
        advantage = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64, requires_grad=True)
        loss = lower_bound_loss(advantage, max_advantage=cap)
        assert loss.tolist() == values
        loss.sum().backward()
        assert advantage.grad is not None and advantage.grad.tolist() == slopes


def test_lower_bound_loss_is_the_integral_of_its_slope() -> None:
    advantage = torch.linspace(-2, 3, 51, dtype=torch.float64, requires_grad=True)
    for cap in (0.5, math.inf):
        loss = lower_bound_loss(advantage, max_advantage=cap)
        slope = torch.autograd.grad(loss.sum(), advantage)[0]
        torch.testing.assert_close(slope, advantage.detach().clamp(0, cap))
        steps = torch.cumulative_trapezoid(slope, advantage.detach())
        torch.testing.assert_close(loss[1:].detach(), steps, rtol=0, atol=2e-3)
