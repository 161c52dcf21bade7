"""Huber's loss by hand."""

import torch

from hindsight_rl.maths.losses import huber_loss


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
