"""How likely actions are, of the numbers that an exported policy states: no network, no PyTorch.

A file that draws its actions answers with the distribution that they are drawn from, as numbers
``[n, ...]`` in the units of the environment, before anything is clipped:

============  ======================================================================================
normal        ``mean [A]``, ``std [A]``, of clip(x)
laplace       ``median [A]``, ``spread [A]`` (mean absolute deviation), of clip(x)
tanh_normal   ``mean [A]``, ``std [A]`` of u, of centre + scale tanh(u) between the policy's bounds
mixture       ``logits [M]`` of its components, ``mean [M, A]``, ``std [M, A]``, of clip(x)
categorical   ``logits [n]``
============  ======================================================================================

Between the bounds an executed action has a density, at a bound the mass of all that is clipped (or,
by a tanh, rounded) to it: the twin of ``hindsight_rl.maths.executed``, which says why.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.propensities import log_tail

Kind = Literal["normal", "laplace", "tanh_normal", "mixture", "categorical"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Doubles = NDArray[np.float64]

_ROOM = 1e-5
"""Share of a bound's size by which rounding of a log may carry an action beyond it."""
_LOG_ROOT = 0.5 * math.log(2.0 * math.pi)


def shapes(kind: Kind, action: tuple[int, ...], count: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of a row of each of a distribution's numbers, by name.

    Args:
        kind: Of the distribution.
        action: Shape of an action.
        count: Components of a mixture, or choices.

    Returns:
        Shapes in the order of the graph's outputs.
    """
    if kind == "categorical":
        return {"logits": (count,)}
    if kind == "mixture":
        return {"logits": (count,), "mean": (count, *action), "std": (count, *action)}
    if kind == "laplace":
        return {"median": action, "spread": action}
    return {"mean": action, "std": action}


@dataclass(frozen=True)
class Likelihood:
    """The log-probability of executed actions under stated distributions.

    Attributes:
        kind: Of the distributions.
        numbers: ``[n, ...]`` by name, see this module.
        low: ``[A]`` float32, the policy's own bounds, -inf where a side is open; empty for choices.
        high: ``[A]`` float32, likewise.
        start: Number of the first choice.
    """

    kind: Kind
    numbers: Mapping[str, NDArray[Any]]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    start: int = 0

    def __call__(self, executed: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> Doubles:
        """Return log-probabilities, see :data:`hindsight_rl.propensities.LogProb`.

        Args:
            executed: ``[n, A]`` in environment units, or choices ``[n]``.
            low: ``[A]``, bound of the environment beside that of the policy.
            high: ``[A]``, likewise.

        Returns:
            ``[n]`` float64, nats; -inf for what is never executed.
        """
        numbers = {name: value.astype(np.float64) for name, value in self.numbers.items()}
        if self.kind == "categorical":
            return _of_choices(executed - self.start, numbers["logits"])
        tighter = np.maximum(self.low, low), np.minimum(self.high, high)
        lower, upper = (side.astype(np.float64) for side in tighter)
        action = executed.astype(np.float64)
        if self.kind == "tanh_normal":
            return _squashed(action, numbers, self.low, self.high, lower, upper)
        if self.kind == "laplace":
            place = (action - numbers["median"]) / numbers["spread"]
            inside = -np.abs(place) - np.log(2.0 * numbers["spread"])
            tails = _laplace_tail, place, -place
            return _with_atoms(action, lower, upper, inside, *tails)
        if self.kind == "normal":
            return _normal(action, numbers["mean"], numbers["std"], lower, upper)
        each = _normal(action[:, None], numbers["mean"], numbers["std"], lower, upper)
        found: Doubles = np.logaddexp.reduce(_log_softmax(numbers["logits"]) + each, axis=-1)
        return found


def _of_choices(choice: NDArray[Any], logits: Doubles) -> Doubles:
    """Return the log-probabilities ``[n]`` of choices counted from 0; -inf for those unknown."""
    last = logits.shape[-1] - 1
    known = np.clip(choice, 0, last)[:, None].astype(np.int64)
    found = np.take_along_axis(_log_softmax(logits), known, axis=-1)[:, 0]
    return np.where((choice < 0) | (choice > last), -np.inf, found)


def _log_softmax(logits: Doubles) -> Doubles:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _normal(action: Doubles, mean: Doubles, std: Doubles, low: Doubles, high: Doubles) -> Doubles:
    """Return the log-probabilities ``[...]`` of clipped normal numbers ``[..., A]``."""
    place = (action - mean) / std
    inside = -0.5 * np.square(place) - np.log(std) - _LOG_ROOT
    action = np.broadcast_to(action, place.shape)
    return _with_atoms(action, low, high, inside, _normal_tail, place, -place)


def _squashed(
    action: Doubles,
    numbers: Mapping[str, Doubles],
    own_low: NDArray[np.float32],
    own_high: NDArray[np.float32],
    low: Doubles,
    high: Doubles,
) -> Doubles:
    """Return the log-probabilities ``[n]`` of centre + scale tanh(u), rounded to float32."""
    half = (own_high - own_low) / np.float32(2)
    scale = np.where(half > 0, half, np.float32(1)).astype(np.float64)
    centre = ((own_high + own_low) / np.float32(2)).astype(np.float64)
    most = 1.0 - 2.0**-25  # tanh is rounded to 1 from here on

    def before(value: Doubles) -> Doubles:
        found: Doubles = np.arctanh(np.clip((value - centre) / scale, -most, most))
        return found

    lowest, highest = _half_way(low, np.inf), _half_way(high, -np.inf)
    mean, std = numbers["mean"], numbers["std"]
    u = before(np.clip(action, lowest, highest))
    inside = -0.5 * np.square((u - mean) / std) - np.log(std * scale) - _LOG_ROOT
    # log(1 - tanh(u)^2), without the cancellation.
    inside -= 2.0 * (math.log(2.0) - np.abs(u) - np.log1p(np.exp(-2.0 * np.abs(u))))
    below, above = (before(lowest) - mean) / std, (mean - before(highest)) / std
    return _with_atoms(action, low, high, inside, _normal_tail, below, above)


def _with_atoms(
    action: Doubles,
    low: Doubles,
    high: Doubles,
    inside: Doubles,
    tail: Callable[[Doubles], Doubles],
    below: Doubles,
    above: Doubles,
) -> Doubles:
    """Return the sum over dimensions: densities, masses at a bound, -inf beyond one."""
    found, fixed = inside.copy(), np.broadcast_to(low == high, inside.shape)
    at_low, at_high = action <= low, action >= high
    for place, at_bound in ((above, at_high), (below, at_low)):  # tails cost more than densities
        found[at_bound] = tail(place[at_bound])
    found[fixed] = 0.0
    room_low, room_high = (_ROOM * (1.0 + np.abs(bound)) for bound in (low, high))
    found[(action < low - room_low) | (action > high + room_high)] = -np.inf
    total: Doubles = found.sum(-1)
    return total


def _normal_tail(place: Doubles) -> Doubles:
    """Return the log of the mass of standard normal numbers below places ``[k]``."""
    return np.array([log_tail(each) for each in place.tolist()], dtype=np.float64)


def _laplace_tail(place: Doubles) -> Doubles:
    """Return the log of the mass below numbers ``[k]`` in units of the spread."""
    left = np.minimum(place, 0.0) - math.log(2.0)
    right = np.log1p(-0.5 * np.exp(-np.maximum(place, 0.0)))
    return np.where(place < 0.0, left, right)


def _half_way(bound: Doubles, towards: float) -> Doubles:
    """Return the ends ``[A]`` of what float32 rounds to bounds ``[A]``."""
    single = bound.astype(np.float32)
    following = np.nextafter(single, np.float32(towards)).astype(np.float64)
    return np.where(np.isinf(bound), bound, 0.5 * (bound + following))
