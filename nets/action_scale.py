"""Action units: those of the environment and those of the networks' outputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hindsight_rl.spec import ActionSpec


class ActionScale(nn.Module):
    """Converts actions between environment units and policy units.

    Where every dimension has both bounds, [low, high] maps to [-1, 1], and a dimension whose bounds
    are equal is only shifted; else all are standardised with the log's statistics. Every bound that
    is given is held, whatever the scale. Discrete actions pass through.

    Args:
        action: The action part of the spec; ``low`` and ``high`` are ``None`` or hold one number
            per dimension, ``None`` or infinite where that side is open.
    """

    centre: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, action: ActionSpec) -> None:
        super().__init__()
        self.discrete = action.discrete
        self.bounded = False
        if self.discrete:
            return
        width = action.width
        self.register_buffer("low", _bound(action.low, width, -math.inf))
        self.register_buffer("high", _bound(action.high, width, math.inf))
        # Bounds at the ends of float32, whose width overflows, are as good as none.
        self.bounded = bool(torch.isfinite(self.high - self.low).all())
        if self.bounded:
            centre, scale = (self.high + self.low) / 2, (self.high - self.low) / 2
            scale = torch.where(scale > 0, scale, 1.0)
        else:
            centre, scale = (torch.tensor(numbers) for numbers in action.statistics)
        self.register_buffer("centre", centre.float())
        self.register_buffer("scale", scale.float())

    def to_policy(self, action: Tensor) -> Tensor:
        """Return actions ``[..., A]`` in policy units."""
        return action if self.discrete else (action - self.centre) / self.scale

    def to_environment(self, action: Tensor) -> Tensor:
        """Return actions ``[..., A]`` in environment units, clipped to every bound given."""
        if self.discrete:
            return action
        return torch.clamp(action * self.scale + self.centre, self.low, self.high)

    def to_policy_density(self, log_prob: Tensor) -> Tensor:
        """Return log-densities ``[...]`` of actions in environment units as in policy units."""
        return log_prob if self.discrete else log_prob + self.scale.log().sum()


def _bound(side: Sequence[float | None] | None, width: int, is_open: float) -> Tensor:
    """Return one side of the bounds ``[A]`` float32, ``is_open`` where there is none."""
    ends = [None] * width if side is None else side
    finite = [is_open if end is None or math.isinf(end) else end for end in ends]
    return torch.tensor(finite, dtype=torch.float32)
