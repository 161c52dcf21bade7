"""How likely executed actions were: what a policy may state, and what takes no network to know."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LogProb = Callable[..., NDArray[np.float64]]
"""``log_prob(executed [n, ...], low [A], high [A]) -> [n]``, nats; see :class:`Drawn`."""

NO_DENSITY = "a deterministic policy of real numbers has no density"
_AT_A_BOUND = -24.0 * math.log(2.0)
"""Nats: a uniform draw, in steps of 2^-24 of the range, lies exactly at a bound as often."""


class Drawn(NamedTuple):
    """Actions, and how likely a policy was to have them executed.

    Attributes:
        action: ``[n, ...]`` in the environment's units or numbers.
        state: The policy's next state, ``[n, ...]`` by name.
        log_prob: Of what is executed, ``[n, ...]``, between the environment's bounds ``[A]`` of
            what is executed, least and largest: ``log_prob(executed, low, high) -> [n]`` float64,
            nats. In environment units, and at a bound to which actions are clipped the mass of
            what is clipped to it. ``None`` where it is not known. A :class:`ByRow` is asked for
            many steps at once.
    """

    action: NDArray[Any]
    state: dict[str, NDArray[Any]]
    log_prob: LogProb | None = None


@dataclass(frozen=True)
class ByRow:
    """Log-probabilities of which each follows from numbers of its own row.

    Args:
        parts: ``[n, ...]`` each.
        of: ``of(parts, executed [n, ...], low [A], high [A]) -> [n]`` float64, nats. Steps with
            equal functions are asked for at once.
    """

    parts: tuple[Array, ...]
    of: Callable[[tuple[Array, ...], Array, Array, Array], NDArray[np.float64]]

    def __call__(self, executed: Array, low: Array, high: Array) -> NDArray[np.float64]:
        """Return the log-probabilities ``[n]``, see :class:`Drawn`."""
        return self.of(self.parts, executed, low, high)


class AtOnce:
    """Keeps what was executed, and finds how likely it was for many steps at once.

    Args:
        low: ``[A]``, least number that the environment executes; empty for choices.
        high: ``[A]``, largest one.
    """

    def __init__(self, low: Array, high: Array) -> None:
        self._bounds = low, high
        self._kept: list[tuple[LogProb, Array]] = []
        self._numbers: list[int] = []

    def keep(self, numbers: Sequence[int], log_prob: LogProb, executed: Array) -> None:
        """Keep a step of some episodes.

        Args:
            numbers: Of the episodes.
            log_prob: How likely each of their actions was.
            executed: The actions ``[n, ...]``.
        """
        self._numbers += numbers
        self._kept.append((log_prob, executed))

    def found(self) -> dict[int, NDArray[np.float64]]:
        """Return the log-probabilities ``[T]`` of each episode, by its number."""
        if not self._kept:
            return {}
        numbers = np.array(self._numbers)
        order = np.argsort(numbers, kind="stable")
        episodes, starts = np.unique(numbers[order], return_index=True)
        each = np.split(self._values()[order], starts[1:])
        return dict(zip(episodes.tolist(), each, strict=True))

    def _values(self) -> NDArray[np.float64]:
        """Return the log-probabilities of all rows, in the order in which they were kept."""
        found = []
        for of, steps in itertools.groupby(self._kept, key=lambda kept: _function(kept[0])):
            log_probs, executed = zip(*steps, strict=True)
            if isinstance(log_probs[0], ByRow):
                parts = zip(*(each.parts for each in log_probs), strict=True)
                joined = tuple(np.concatenate(part) for part in parts)
                found.append(of(joined, np.concatenate(executed), *self._bounds))
            else:
                found += [of(each, *self._bounds) for each in executed]
        return np.concatenate(found)


def _function(log_prob: LogProb) -> Callable[..., NDArray[np.float64]]:
    return log_prob.of if isinstance(log_prob, ByRow) else log_prob


@runtime_checkable
class Draws(Protocol):
    """A policy that may know how likely what it does is."""

    def drawn(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        task: NDArray[np.float32] | None,
        state: dict[str, NDArray[Any]],
        noise: NDArray[np.int64],
    ) -> Drawn:
        """Return what :meth:`Actor.step` does, and how likely it is."""


@runtime_checkable
class Stating(Draws, Protocol):
    """A policy that says beforehand whether it knows how likely what it does is.

    That depends on how it acts, never on what it sees: a log has the column ``action_log_prob`` of
    all episodes or of none.
    """

    def unstated(self, low: NDArray[np.float32], high: NDArray[np.float32], *, mixed: bool) -> str:
        """Return why the probability of executed actions is not known.

        Args:
            low: ``[A]``, least number that the environment executes; empty for choices.
            high: ``[A]``, largest one.
            mixed: Whether a share of the actions is drawn uniformly between these bounds instead.

        Returns:
            The end of a sentence; "" where it is known.
        """


def certain(action: Array) -> LogProb:
    """Return the log-probabilities of a policy that takes one choice in each state.

    Args:
        action: ``[n]``, the choices, in the environment's numbers.

    Returns:
        0 where it was executed, else -inf.
    """
    return ByRow((action,), _if_equal)


def _if_equal(
    parts: tuple[Array, ...], executed: Array, low: Array, high: Array
) -> NDArray[np.float64]:
    return np.where(executed == parts[0], 0.0, -np.inf)


def uniform_choice(n: int) -> LogProb:
    """Return the log-probabilities of uniform draws of n choices."""
    return ByRow((), lambda _, executed, low, high: np.full(len(executed), -math.log(n)))


def uniform_between(*, whole: bool, atoms: bool) -> LogProb:
    """Return the log-probabilities of uniform draws between finite bounds.

    Args:
        whole: Numbers are whole ones, each as likely.
        atoms: The draws are mixed with those of a policy whose actions are clipped, so that an
            action at a bound has a mass: of uniform draws next to nothing.

    Returns:
        The function; a dimension whose bounds are equal has one action.
    """

    def of(
        parts: tuple[Array, ...], executed: Array, low: Array, high: Array
    ) -> NDArray[np.float64]:
        width = high.astype(np.float64) - low + whole
        each = np.broadcast_to(-np.log(np.where(width > 0, width, 1.0)), executed.shape)
        if atoms:
            at_bound = ((executed <= low) | (executed >= high)) & (width > 0)
            each = np.where(at_bound, _AT_A_BOUND, each)
        total: NDArray[np.float64] = each.reshape(len(executed), -1).sum(-1)
        return total

    return ByRow((), of)


def clipped_normal(action: float, mean: float, std: float, low: float, high: float) -> float:
    """Return the log-probability of a normal number that is clipped to bounds, as it was executed.

    Args:
        action: In [low, high].
        mean: Before clipping.
        std: Above 0.
        low: Least number executed.
        high: Largest one.

    Returns:
        Nats: a density between the bounds, at one the mass of what is clipped to it.
    """
    place = (action - mean) / std
    if action <= low:
        return log_tail(place)
    if action >= high:
        return log_tail(-place)
    return -0.5 * place * place - math.log(std) - 0.5 * math.log(2.0 * math.pi)


def log_tail(place: float) -> float:
    """Return the log of the mass of standard normal numbers below a place."""
    if place > -30.0:
        return math.log(0.5 * math.erfc(-place / math.sqrt(2.0)))
    # erfc is 0 in double precision further out; the first term of its series is not.
    return -0.5 * place * place - math.log(-place) - 0.5 * math.log(2.0 * math.pi)


def explored(own: LogProb, uniform: LogProb, share: float) -> LogProb:
    """Return log((1 - x) p + x u), the log-probabilities where a share is drawn uniformly.

    Args:
        own: Log of p, those of the policy.
        uniform: Log of u, those of uniform draws.
        share: x, in [0, 1].

    Returns:
        The function.
    """
    if share in (0.0, 1.0):
        return uniform if share else own
    if isinstance(own, ByRow):
        return ByRow(own.parts, _Explored(own.of, uniform, share))
    mixed = _Explored(lambda _, *given: own(*given), uniform, share)
    return lambda *given: mixed((), *given)


@dataclass(frozen=True)
class _Explored:
    """Log-probabilities where a share is drawn uniformly; those of equal fields are equal."""

    own: Callable[..., NDArray[np.float64]]
    uniform: LogProb
    share: float

    def __call__(
        self, parts: tuple[Array, ...], executed: Array, low: Array, high: Array
    ) -> NDArray[np.float64]:
        of_own, of_uniform = self.own(parts, executed, low, high), self.uniform(executed, low, high)
        kept, drawn = math.log1p(-self.share), math.log(self.share)
        return np.logaddexp(kept + of_own, drawn + of_uniform)
