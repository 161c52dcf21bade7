"""Multipliers of limits: T13, value and gradient."""

import torch

from hindsight_rl.maths.losses import multiplier_loss


def test_multiplier_grows_while_its_limit_is_broken() -> None:
    """Alpha = 2, 3 and limits .1, .2: alpha * (limit - KL), slope limit - KL, none for KL."""
    multiplier = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    limit = torch.tensor([0.1, 0.2], dtype=torch.float64)
    divergence = torch.tensor([[0.3, 0.0], [0.1, 0.5]], dtype=torch.float64, requires_grad=True)
    found = multiplier_loss(multiplier, divergence, limit=limit)
    expected = torch.tensor([[-0.4, 0.6], [0.0, -0.9]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    found.sum().backward()
    slope = torch.tensor([-0.2, -0.1], dtype=torch.float64)
    torch.testing.assert_close(multiplier.grad, slope, rtol=0, atol=2e-6)
    assert divergence.grad is None
