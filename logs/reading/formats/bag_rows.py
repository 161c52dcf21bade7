"""Rows of messages that come when they like: at each moment, what was known by then.

Causal throughout: a row at time t holds of each topic the newest message with a stamp of at most t.
Nothing is interpolated, because between two messages lies the future.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]
_SECOND_NS = 1_000_000_000


class Segment(NamedTuple):
    """A stretch of a recording that may become episodes; ns, both ends included."""

    start: int
    stop: int


def newest(stamps: Stamps, ticks: Stamps) -> Stamps:
    """Return the number of the newest message at each tick, -1 where none came yet.

    Args:
        stamps: ``[M]`` of the messages, ascending, ns.
        ticks: ``[T]``, ns.

    Returns:
        ``[T]``, the largest m with ``stamps[m] <= ticks[t]``.
    """
    found: Stamps = np.searchsorted(stamps, ticks, side="right") - 1
    return found


def grid(start: int, stop: int, rate: float) -> Stamps:
    """Return the ticks of a rate from a moment on.

    Args:
        start: First tick, ns.
        stop: No tick lies beyond it, ns.
        rate: Ticks a second.

    Returns:
        ``[T]`` ns, each rounded from ``start + k / rate`` by itself, so that errors do not add up.
    """
    if stop < start:
        return np.zeros(0, np.int64)
    count = int((stop - start) * rate / _SECOND_NS) + 2
    ticks: Stamps = start + np.rint(np.arange(count) * (_SECOND_NS / rate)).astype(np.int64)
    found: Stamps = ticks[ticks <= stop]
    return found


def marked(stamps: Stamps, on: NDArray[np.bool_]) -> list[Segment]:
    """Return the stretches between marks: from each start to the next stop, or the end.

    Args:
        stamps: ``[M]`` of the marks, ascending, ns.
        on: ``[M]``, whether a mark starts an episode; a start within one begins the next.

    Returns:
        Segments; the last is open, up to the largest time, where no stop follows it.
    """
    found: list[Segment] = []
    begun: int | None = None
    for stamp, starts in zip(stamps.tolist(), on.tolist(), strict=True):
        if begun is not None:
            found.append(Segment(begun, stamp - 1))
        begun = stamp if starts else None
    return found if begun is None else [*found, Segment(begun, np.iinfo(np.int64).max)]


def ticks_of(
    segment: Segment, needed: Sequence[Stamps], rate: float | None, given: Stamps | None
) -> Stamps:
    """Return the ticks of a segment: from when all is known until nothing comes any more.

    Args:
        segment: The stretch.
        needed: Stamps of each topic that is read, none empty.
        rate: Ticks a second, where they are not given.
        given: Moments of rows, where a topic sets them.

    Returns:
        ``[T]`` ns, ascending, each once.
    """
    start = max(segment.start, *(int(stamps[0]) for stamps in needed))
    stop = min(segment.stop, max(int(stamps[-1]) for stamps in needed))
    if given is not None:
        return np.unique(given[(given >= start) & (given <= stop)])
    return grid(start, stop, rate or 1.0)


def fresh_runs(ages: Sequence[NDArray[np.float64]], oldest: float | None) -> list[slice]:
    """Return the runs of ticks at which no sensor is too old.

    Args:
        ages: ``[T]`` of each topic, seconds.
        oldest: The largest age that is accepted, seconds; ``None``: any.

    Returns:
        Slices of ticks, in order.
    """
    count = len(ages[0])
    if oldest is None:
        return [slice(0, count)]
    fresh = np.all([age <= oldest for age in ages], axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], fresh.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
