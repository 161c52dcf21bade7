"""Operations: what one update computes, one loop or product after another, and who waits for whom.

Two threads that share every loop wait for each other at every loop, and each finds in its cache
what the other has made. Two threads that take an operation each wait only where one needs the
other's result. :func:`lanes` finds such an order; what everything else leads to, the optimiser's
pass over all parameters, stays shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Seconds: a place that another thread has written, per byte, and waiting for it at all.
_FETCH, _WAIT = 1 / 20e9, 3e-7
# An operation to which this share of all work leads is done by all threads together.
_SHARED = 0.8
# Lanes must shorten the way by this factor to be worth their memory.
_WORTH = 0.75


class Place(NamedTuple):
    """Bytes ``[start, stop)`` of a block of memory.

    Args:
        block: Name of the block.
        start: First byte.
        stop: Byte after the last.
    """

    block: str
    start: int
    stop: int


@dataclass(frozen=True)
class Operation:
    """A loop or a product.

    Args:
        call: C++, with ``{0}``, ``{1}``, ... for the places, ``{threads}``, ``{packed}``, and
            ``{alone}`` behind the name of a function that threads would share.
        places: Bytes that it reads or writes.
        written: Which of them it writes.
        seconds: What it takes on one thread, roughly.
    """

    call: str
    places: tuple[Place, ...]
    written: frozenset[int]
    seconds: float


class Step(NamedTuple):
    """An operation in its lane.

    Args:
        number: Of the operation.
        after: Numbers of operations in other lanes that must have ended.
    """

    number: int
    after: tuple[int, ...]


class Lanes(NamedTuple):
    """Who does what, in which order.

    Args:
        each: Steps of every thread; one entry if they share all operations.
        shared: Numbers of the operations that all do together in the end.
    """

    each: list[list[Step]]
    shared: list[int]


def predecessors(operations: Sequence[Operation]) -> list[set[int]]:
    """Return for each operation those that must have ended: they write what it reads, or the like.

    Args:
        operations: In an order in which they can be done.

    Returns:
        Numbers of earlier operations.
    """
    found: list[set[int]] = []
    seen: dict[str, list[tuple[int, Place, bool]]] = {}
    for number, operation in enumerate(operations):
        before: set[int] = set()
        for which, place in enumerate(operation.places):
            writes = which in operation.written
            before |= {
                other
                for other, at, wrote in seen.get(place.block, ())
                if (writes or wrote) and at.start < place.stop and place.start < at.stop
            }
        for which, place in enumerate(operation.places):
            seen.setdefault(place.block, []).append((number, place, which in operation.written))
        found.append(before)
    return found


def lanes(operations: Sequence[Operation], threads: int) -> Lanes:
    """Return who does what.

    Operations are given to the thread that can end them first, those that most depends on before
    the others.

    Args:
        operations: In an order in which they can be done.
        threads: At least 1.

    Returns:
        One lane per thread, or all in one where that is as fast.
    """
    together = Lanes([], list(range(len(operations))))
    if threads == 1:
        return together
    before = predecessors(operations)
    shared = _shared(operations, before)
    alone = [number for number in range(len(operations)) if number not in shared]
    order, end = _assigned(operations, before, alone, threads)
    if end > _WORTH * sum(operations[number].seconds for number in alone):
        return together
    lane_of = {number: lane for lane, numbers in enumerate(order) for number in numbers}
    each = [
        [
            Step(number, tuple(sorted(b for b in before[number] if lane_of[b] != lane)))
            for number in numbers
        ]
        for lane, numbers in enumerate(order)
    ]
    return Lanes(each, sorted(shared))


def _shared(operations: Sequence[Operation], before: Sequence[set[int]]) -> set[int]:
    """Return the operations that nearly all others lead to."""
    total = sum(operation.seconds for operation in operations)
    ancestors: list[set[int]] = []
    for direct in before:
        ancestors.append(direct.union(*(ancestors[number] for number in direct)))
    return {
        number
        for number, all_before in enumerate(ancestors)
        if sum(operations[b].seconds for b in all_before) > _SHARED * total
    }


def _assigned(
    operations: Sequence[Operation], before: Sequence[set[int]], alone: Sequence[int], threads: int
) -> tuple[list[list[int]], float]:
    """Return the operations of every thread in their order, and when the last ends."""
    ahead = dict.fromkeys(alone, 0.0)  # the longest way from here to the end
    for number in reversed(alone):
        ahead[number] += operations[number].seconds
        for b in before[number]:
            ahead[b] = max(ahead[b], ahead[number])
    order: list[list[int]] = [[] for _ in range(threads)]
    free, ends, lane_of = [0.0] * threads, dict[int, float](), dict[int, int]()
    waiting = set(alone)
    while waiting:
        ready = [number for number in waiting if before[number] <= ends.keys()]
        number = max(ready, key=lambda number: (ahead[number], -number))
        waiting.remove(number)

        def end(lane: int, number: int = number) -> float:
            start = free[lane]
            cost = operations[number].seconds
            for b in before[number]:
                away = lane_of[b] != lane
                start = max(start, ends[b] + _WAIT * away)
                cost += away * _FETCH * _size_of_results(operations[b])
            return start + cost

        lane = min(range(threads), key=end)
        ends[number] = free[lane] = end(lane)
        lane_of[number] = lane
        order[lane].append(number)
    return order, max(free)


def _size_of_results(operation: Operation) -> int:
    return sum(operation.places[n].stop - operation.places[n].start for n in operation.written)
