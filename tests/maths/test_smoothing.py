"""Smoothed actions: both clips by hand, with gradients."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.smoothing import smoothed_action


def actions() -> Tensor:
    return torch.tensor([[0.1, 0.1, 0.9, -0.9]], dtype=torch.float64, requires_grad=True)


def test_noise_is_clipped_and_then_the_action() -> None:
    """At std .2: .1 + .2 = .3; noise of 5 is cut to .5; .9 + .2 ends at 1, -.9 - .5 at -1.

    The gradient by the action is 1, and 0 where the action was cut.
    """
    action = actions()
    noise = torch.tensor([[1.0, 5.0, 1.0, -5.0]], dtype=torch.float64)
    found = smoothed_action(action, noise, std=0.2, limit=0.5)
    torch.testing.assert_close(found, found.new_tensor([[0.3, 0.6, 1.0, -1.0]]))
    found.sum().backward()
    assert action.grad is not None and action.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("std", "limit"), [(0.0, 0.5), (0.2, 0.0)])
def test_without_noise_actions_stay(std: float, limit: float) -> None:
    action = actions()
    assert smoothed_action(action, torch.full_like(action, 3.0), std=std, limit=limit).equal(action)


@pytest.mark.parametrize(("std", "limit"), [(-0.1, 0.5), (0.2, -1.0), (float("nan"), 0.5)])
def test_negative_widths_are_refused(std: float, limit: float) -> None:
    with pytest.raises(ValueError, match=f"std {std} and limit {limit} must be at least 0"):
        smoothed_action(actions(), actions(), std=std, limit=limit)
