"""Signals that end a command: SIGINT (Ctrl-C), SIGTERM (schedulers, ``kill``), SIGUSR1 (SLURM).

A signal becomes the exception :class:`Ended`, which passes every ``finally`` on its way, so that
drafts are removed; the exit code is 128 and the signal's number, as a shell would say. A second
signal ends the process at once. A signal that was ignored when the process was started (``nohup``,
a job in the background of a script) stays ignored. One that comes while Python frees an object is
raised again: there exceptions are dropped.
"""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask any command to end."""
# Of schedulers, some time before they end a job; Windows has none.
WARNING: tuple[signal.Signals, ...] = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()
"""Signals that warn of an end to come: a command that can save what it has done does so."""


_SOON = 0.01  # seconds


class Ended(BaseException):  # noqa: N818  # no error: the sender of the signal wants it
    """A signal asked the process to end.

    Like ``KeyboardInterrupt`` not an ``Exception``: what handles errors must not swallow it.

    Args:
        number: The signal.
        where: What had been done by then, appended to the message.
    """

    def __init__(self, number: int, where: str = "") -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}{where and ' '}{where}")
        self.number = number
        self.code = 128 + number
        """Exit code of the command."""


@contextmanager
def handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], Any]
) -> Iterator[None]:
    """Have signals handled within a block, except those that are ignored.

    Args:
        numbers: The signals. Threads other than the main one cannot handle any: nothing is done.
        handler: What is called.

    Yields:
        Nothing.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in numbers}
        before = {n: old for n, old in found.items() if old not in (signal.SIG_IGN, None)}
    dropped = sys.unraisablehook

    def hook(found: "sys.UnraisableHookArgs") -> None:
        if not isinstance(found.exc_value, Ended):
            dropped(found)
            return
        for number in before:
            signal.signal(number, handler)
        # Here an exception would be dropped again.
        threading.Timer(_SOON, _thread.interrupt_main, (found.exc_value.number,)).start()

    try:
        for number in before:
            signal.signal(number, handler)
        sys.unraisablehook = hook
        yield
    finally:
        sys.unraisablehook = dropped
        for number, old in before.items():
            signal.signal(number, old)


def ended(number: int, _: FrameType | None = None) -> None:
    """Raise :class:`Ended`; a handler. Another signal then ends the process at once.

    Args:
        number: The signal.

    Raises:
        Ended: Always.
    """
    at_once()
    raise Ended(number)


def at_once() -> None:
    """Let the next signal end the process, whatever it is doing."""
    for number in (*ENDING, *WARNING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def let_ranks_end() -> None:
    """Let go of Python's lock for a moment, once, when the process of a rank ends.

    Gloo's threads wait for it to free the tensors of the last broadcast. Where the interpreter has
    begun to shut down by then, PyTorch aborts the process: a good run ends with exit code -6.
    """
    time.sleep(0.1)
