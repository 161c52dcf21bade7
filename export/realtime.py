"""What a Linux process may ask for to be on time; each part that is not granted is named in a line.

Measured at 1 kHz on a busy machine: SCHED_FIFO is worth more than all else together, a timer slack
of 1 ns halves the median without any right, and a frozen garbage collector shortens the tail.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

_SET_TIMER_SLACK, _GET_TIMER_SLACK = 29, 30  # of linux/prctl.h
_LOCK_CURRENT, _LOCK_FUTURE = 1, 2  # of sys/mman.h


@dataclass(frozen=True)
class RealTime:
    """What is asked for.

    Args:
        priority: Of SCHED_FIFO, 1 to 99; 0 stays with the ordinary scheduler. The kernel's own
            threads of interrupts have 50. A loop that never sleeps starves its core.
        timer_slack: Nanoseconds by which the kernel may wake the loop late; 0 leaves its 50,000.
        lock_memory: Keep all memory of the process in RAM.
        freeze_gc: No garbage collection while the loop runs.

    Raises:
        ValueError: ``priority`` or ``timer_slack`` is out of range.
    """

    priority: int = 40
    timer_slack: int = 1
    lock_memory: bool = True
    freeze_gc: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 99:
            raise ValueError(f"priority is {self.priority}, and must be 0 to 99")
        if self.timer_slack < 0:
            raise ValueError(f"timer_slack is {self.timer_slack}, and must not be negative")


@contextmanager
def real_time(asked: RealTime | None) -> Iterator[tuple[str, ...]]:
    """Apply options to this thread and process, and take them back.

    Args:
        asked: The options; ``None``: nothing is changed.

    Yields:
        What was not granted, and what would grant it, one sentence each.
    """
    with ExitStack() as undo:
        denied: list[str] = []
        if asked is not None:
            if asked.freeze_gc:
                _freeze(undo)
            if asked.timer_slack:
                denied += _tried("no timer slack", _slack, asked.timer_slack, undo)
            if asked.lock_memory:
                what = "memory is not locked (needs CAP_IPC_LOCK, or ulimit -l unlimited)"
                denied += _tried(what, _lock, 0, undo)
            if asked.priority:
                what = "no SCHED_FIFO (needs CAP_SYS_NICE, or rtprio in limits.conf)"
                denied += _tried(what, _fifo, asked.priority, undo)
        yield tuple(denied)


def _tried(
    what: str, apply: Callable[[int, ExitStack], None], value: int, undo: ExitStack
) -> list[str]:
    try:
        if not sys.platform.startswith("linux"):
            raise OSError("only Linux has it")
        apply(value, undo)
    except (OSError, AttributeError) as error:
        return [f"{what}: {getattr(error, 'strerror', None) or error}"]
    return []


def _freeze(undo: ExitStack) -> None:
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    undo.callback(gc.unfreeze)
    if was_on:
        undo.callback(gc.enable)


def _slack(slack: int, undo: ExitStack) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    before = library.prctl(_GET_TIMER_SLACK, 0, 0, 0, 0)
    _checked(library.prctl(_SET_TIMER_SLACK, ctypes.c_ulong(slack), 0, 0, 0))
    undo.callback(library.prctl, _SET_TIMER_SLACK, ctypes.c_ulong(max(before, 0)), 0, 0, 0)


def _lock(_: int, undo: ExitStack) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    _checked(library.mlockall(_LOCK_CURRENT | _LOCK_FUTURE))
    undo.callback(library.munlockall)


def _fifo(priority: int, undo: ExitStack) -> None:
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    undo.callback(os.sched_setscheduler, 0, before, parameters)


def _checked(answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
