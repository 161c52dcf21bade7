"""How likely actions were as they were executed: in the environment's units, clipped to bounds.

    a = clip(centre + scale x, low, high),   x drawn from a distribution in policy units

Between the bounds an action has a density, in environment units. At a bound it has the mass of all
that was clipped to it: a ratio of two densities there would be that of one point of two tails. Of
policies over the same bounds the ratio of these numbers has the mean 1 under the policy that acted,
which is what importance sampling needs.

Squashed actions never reach their bounds but in float32, where they are rounded to them; there they
have the mass of what is rounded. A dimension whose bounds are equal has one action, of mass 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.losses import tanh_log_slope

_ROOM = 1e-5
"""Share of a bound's size."""


class Units(NamedTuple):
    """From policy units to executed actions, ``[A]`` each."""

    centre: Tensor
    scale: Tensor
    """Above 0."""
    low: Tensor
    """-inf where there is no bound."""
    high: Tensor
    """inf where there is no bound."""

    def place(self, value: Tensor) -> Tensor:
        """Return numbers in policy units ``[..., A]`` in environment units, not clipped."""
        return self.centre + self.scale * value.to(self.scale.dtype)


def clipped_normal(action: Tensor, mean: Tensor, std: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the log-probability of normal actions that are clipped to bounds.

    Args:
        action: ``[..., A]``, as executed, within the bounds.
        mean: ``[..., A]``, before clipping.
        std: ``[..., A]``, above 0.
        low: ``[A]``; -inf where there is no bound.
        high: ``[A]``; inf where there is no bound.

    Returns:
        ``[...]``, nats, the sum over dimensions.
    """
    place = (action - mean) / std
    inside = -0.5 * place.square() - std.log() - 0.5 * math.log(2.0 * math.pi)
    below, above = torch.special.log_ndtr(place), torch.special.log_ndtr(-place)
    return _with_atoms(action, low, high, inside, below, above)


def clipped_laplace(
    action: Tensor, median: Tensor, spread: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return the log-probability of Laplace actions that are clipped to bounds.

    Args:
        action: ``[..., A]``, as executed, within the bounds.
        median: ``[..., A]``, before clipping.
        spread: ``[..., A]``, mean absolute deviation, above 0.
        low: ``[A]``; -inf where there is no bound.
        high: ``[A]``; inf where there is no bound.

    Returns:
        ``[...]``, nats, the sum over dimensions.
    """
    place = (action - median) / spread
    inside = -place.abs() - spread.log() - math.log(2.0)
    below, above = (_log_laplace_tail(side * place) for side in (1.0, -1.0))
    return _with_atoms(action, low, high, inside, below, above)


def squashed_normal(action: Tensor, mean: Tensor, std: Tensor, units: Units) -> Tensor:
    """Return the log-probability of actions centre + scale tanh(u), u normal, as executed.

    Args:
        action: ``[..., A]``, as executed, within the bounds.
        mean: ``[..., A]``, of u.
        std: ``[..., A]``, of u, above 0.
        units: The ends of the tanh, and the bounds.

    Returns:
        ``[...]``, nats, the sum over dimensions.
    """
    lowest, highest = _half_way(units.low, math.inf), _half_way(units.high, -math.inf)
    # tanh is rounded to 1 in float32 from here on.
    most = 1.0 - max(2.0**-25, 0.5 * torch.finfo(lowest.dtype).eps)

    def before(value: Tensor) -> Tensor:
        return torch.atanh(((value - units.centre) / units.scale).clamp(-most, most))

    u = before(action.to(lowest.dtype).clamp(lowest, highest))
    place = (u - mean) / std
    inside = -0.5 * place.square() - std.log() - 0.5 * math.log(2.0 * math.pi)
    inside = inside - tanh_log_slope(u) - units.scale.log()
    below = torch.special.log_ndtr((before(lowest) - mean) / std)
    above = torch.special.log_ndtr((mean - before(highest)) / std)
    return _with_atoms(action, units.low, units.high, inside, below, above)


def _with_atoms(
    action: Tensor, low: Tensor, high: Tensor, inside: Tensor, below: Tensor, above: Tensor
) -> Tensor:
    """Return the sum over dimensions: densities, masses at a bound, -inf beyond one.

    Rounding of a log may carry an action beyond a bound by as much as readers let pass.
    """
    found = torch.where(action <= low, below, torch.where(action >= high, above, inside))
    found = torch.where(low == high, 0.0, found)
    beyond = (action < low - _ROOM * (1.0 + low.abs())) | (
        action > high + _ROOM * (1.0 + high.abs())
    )
    return torch.where(beyond, -math.inf, found).sum(-1)


def _log_laplace_tail(place: Tensor) -> Tensor:
    """Return the log of the mass below numbers ``[...]`` in units of the spread."""
    left = place.clamp(max=0.0) - math.log(2.0)
    right = torch.log1p(-0.5 * torch.exp(-place.clamp(min=0.0)))
    return torch.where(place < 0.0, left, right)


def _half_way(bound: Tensor, towards: float) -> Tensor:
    """Return the ends ``[A]`` of what float32 rounds to bounds ``[A]``."""
    single = bound.float()
    next_one = torch.nextafter(single, torch.full_like(single, towards))
    middle = 0.5 * (bound + next_one.to(bound.dtype))
    return torch.where(bound.isinf(), bound, middle)
