"""Action units: those of the environment and those of the networks' outputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hindsight_rl.maths.executed import Units
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

    def units(self, low: Tensor | None = None, high: Tensor | None = None) -> Units:
        """Return how actions in policy units become executed ones.

        Args:
            low: ``[A]``, a further bound, of the environment where it has one of its own; -inf
                where a side is open.
            high: ``[A]``, likewise; inf where a side is open.

        Returns:
            Centre, scale and the tighter of the bounds, ``[A]`` each: float64, or float32 on
            devices that have no other.
        """
        dtype = torch.float32 if self.scale.device.type == "mps" else torch.float64
        lower, upper = self.low, self.high
        if low is not None:
            lower = torch.maximum(lower, low.to(lower))
        if high is not None:
            upper = torch.minimum(upper, high.to(upper))
        return Units(*(part.to(dtype) for part in (self.centre, self.scale, lower, upper)))

    def data_limits(self, action: ActionSpec) -> tuple[Tensor, Tensor]:
        """Return the smallest and largest actions of the data, ``[A]`` each, policy units.

        Bounds where there are both, -1 and 1: the scale makes them so. Else those of the log: in
        standard deviations 1 is no end of anything.

        Args:
            action: What the scale was made of.

        Returns:
            Two tensors.

        Raises:
            ValueError: A bound is missing, and the spec has no quantiles of the log.
        """
        if self.bounded:
            return self.to_policy(self.low), self.to_policy(self.high)
        if action.quantiles is None:
            raise ValueError(
                "actions have no bounds, and the spec does not hold the quantiles of the log, of "
                "which the first and last are the ends: make it of the log again with this "
                "release, or give action_low and action_high in the column map (--data.columns)"
            )
        ends = torch.tensor(action.quantiles, dtype=torch.float32)[:, [0, -1]].T
        low, high = self.to_policy(ends.clamp(self.low, self.high))
        return low, high

    def to_policy_density(self, log_prob: Tensor) -> Tensor:
        """Return log-densities ``[...]`` of actions in environment units as in policy units."""
        return log_prob if self.discrete else log_prob + self.scale.log().sum()


def _bound(side: Sequence[float | None] | None, width: int, is_open: float) -> Tensor:
    """Return one side of the bounds ``[A]`` float32, ``is_open`` where there is none."""
    ends = [None] * width if side is None else side
    finite = [is_open if end is None or math.isinf(end) else end for end in ends]
    return torch.tensor(finite, dtype=torch.float32)
