"""Actions as an environment takes them: what is sent for an answer of a policy, and is recorded.

What is sent is what a log can hold: float32 numbers inside the bounds (the nearest ones where the
bounds are float64), whole numbers where the space holds whole numbers, and choices that exist. A
number that an environment would change before it acts is changed here, so that it is recorded as
it was executed.
"""

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import ClipAction
from numpy.typing import NDArray

from hindsight_rl.float32 import inward
from hindsight_rl.spec_parts import ActionSpec

_ROUNDING = 1e-5
"""Share of an action's size by which it may lie outside its bounds without a warning."""
_NEAR_ONE = 0.9
"""Logged actions that reach so far, and never beyond 1, may be shares of the bounds."""


class ActionSpace:
    """The actions of an environment.

    Args:
        env: The environment; its action space is a ``Box`` or ``Discrete``.
        name: Its name, for messages.

    Attributes:
        discrete: Whether actions are numbers of a choice.
        shape: ``(A,)``, or ``()`` for a choice.
        n: Number of choices, 0 for real numbers.
        start: Number of the first choice.
        low: ``[A]`` float32, least number that is executed; -inf where that side is open.
        high: ``[A]`` float32, largest number that is executed; inf where that side is open.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        space: Any = env.action_space
        self._space, self._name, self._warned = space, name, False
        self.discrete = isinstance(space, spaces.Discrete)
        self.shape = tuple(space.shape or ())
        self.n, self.start = (int(space.n), int(space.start)) if self.discrete else (0, 0)
        self.low = self.high = np.zeros(0, np.float32)
        if not self.discrete:
            self.low, self.high = _executed_bounds(env)
            ends = [np.asarray(end, np.float64) for end in (space.low, space.high)]
            room = [_ROUNDING * (1 + np.where(np.isfinite(end), np.abs(end), 0)) for end in ends]
            self._far = ends[0] - room[0], ends[1] + room[1]

    def __str__(self) -> str:
        return str(self._space)

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole ones, of a choice or in a ``Box`` of integers."""
        return self._space.dtype.kind in "iub"

    def executed(self, answers: NDArray[Any]) -> NDArray[Any]:
        """Return what is executed for the answers of a policy: what a log records.

        Args:
            answers: ``[n, A]``, or ``[n]`` choices in the environment's numbers; finite.

        Returns:
            ``[n, A]`` float32 inside the bounds, whole where the space is; or ``[n]`` int64.

        Raises:
            ValueError: An answer is none of the choices.
        """
        if self.discrete:
            return self._choices(answers)
        given = answers.astype(np.float32)
        self._check_units(given)
        found: NDArray[np.float32] = np.clip(given, self.low, self.high)
        if self.whole:
            found = np.rint(found)
        return found.astype(self._space.dtype).astype(np.float32)

    def sent(self, action: NDArray[Any]) -> Any:
        """Return one executed action as the environment's ``step`` takes it."""
        if self.discrete:
            return int(action)
        # Bounds without a float32 number between them, such as [0.1, 0.1], are kept all the same.
        return np.clip(action.astype(self._space.dtype), self._space.low, self._space.high)

    def warn_of_scale(self, logged: ActionSpec) -> None:
        """Warn where a log without action bounds seems to hold shares of this space's bounds.

        Tools write what the network gave, -1 to 1, where the environment was sent multiples of it.

        Args:
            logged: The actions of the log, real numbers as many as here.
        """
        bounds = np.abs(np.concatenate([self.low, self.high]))
        other = np.isfinite(bounds) & (np.abs(bounds - 1) > 1 - _NEAR_ONE)
        if logged.low is None and logged.high is None and look_scaled(logged) and other.any():
            warnings.warn(
                f"{self._name}: its actions are {self._space}, and all logged ones lie within "
                "-1 and 1, as if they were shares of the bounds. If so, give action_scale in the "
                "column map of the log and fit again; else give action_low and action_high",
                stacklevel=2,
            )

    def _choices(self, answers: NDArray[Any]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = answers.astype(np.int64)
        wrong = (found != answers) | (found < self.start) | (found >= self.start + self.n)
        if wrong.any():
            raise ValueError(
                f"{self._name}: the policy chose {answers[wrong][0]}, and the choices are "
                f"{self.start} to {self.start + self.n - 1}"
            )
        return found

    def _check_units(self, given: NDArray[np.float32]) -> None:
        """Warn once of numbers that the action space does not hold: their units may be others."""
        wrong = (given < self._far[0]) | (given > self._far[1])
        if self._warned or not wrong.any():
            return
        self._warned = True
        warnings.warn(
            f"{self._name}: the policy answered {given[wrong][0]:g}, outside the action space "
            f"{self._space}. Such answers are clipped to it. If they are in other units, fit again "
            "with action_scale, action_low and action_high in the column map of the log",
            stacklevel=2,
        )


def look_scaled(logged: ActionSpec) -> bool:
    """Return whether all logged actions lie within -1 and 1, and some near the ends."""
    if logged.quantiles is None:
        return False
    reach = np.abs([(row[0], row[-1]) for row in logged.quantiles]).max()
    return bool(_NEAR_ONE <= reach <= 1 + _ROUNDING)


def inside(
    low: NDArray[Any], high: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the tightest float32 numbers inside bounds of any type.

    Args:
        low: ``[A]``, infinite where that side is open.
        high: ``[A]``, likewise.

    Returns:
        The least float32 number not below ``low`` and the largest not above ``high``; where no
        float32 number lies between them, the one nearest to ``low`` for both.
    """
    least = np.array([inward(end, low=True) for end in low.ravel().tolist()], np.float32)
    most = np.array([inward(end, low=False) for end in high.ravel().tolist()], np.float32)
    with np.errstate(over="ignore"):
        nearest = low.ravel().astype(np.float32)
    empty = least > most
    both = np.where(empty, nearest, least), np.where(empty, nearest, most)
    return both[0].reshape(low.shape), both[1].reshape(high.shape)


def _executed_bounds(
    env: gymnasium.Env[Any, Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the bounds of what is executed: those of the space, and of ``ClipAction`` beneath it.

    ``ClipAction`` takes every number and passes on clipped ones; wrappers that leave actions alone
    may stand above it.
    """
    low, high = inside(env.action_space.low, env.action_space.high)  # type: ignore[attr-defined]
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, ClipAction):
            beneath: Any = env.env.action_space
            least, most = inside(beneath.low, beneath.high)
            low, high = np.maximum(low, least), np.minimum(high, most)
        elif (
            isinstance(env, gymnasium.ActionWrapper) or env.action_space is not env.env.action_space
        ):
            break
        env = env.env
    return low, high
