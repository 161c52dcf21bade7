"""Workers of this very process, for tests of what is shared; and functions for real ones.

Imported as ``near_workers`` (``tests`` is on pytest's path).
"""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hindsight_rl.workers import WorkerError


class Near:
    """Computes parts one by one, each when it is submitted.

    Args:
        most: Parts that are computed; from then on processes are lost. ``None`` for all.
    """

    count = 2

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.parts: list[Any] = []

    def submit(self, function: Callable[[Any], Any], part: Any) -> "Future[Any]":
        """Compute a part."""
        answer: Future[Any] = Future()
        self.parts.append(part)
        if self.most is not None and len(self.parts) > self.most:
            answer.set_exception(WorkerError("its process was killed, or memory ran out"))
        else:
            answer.set_result(function(part))
        return answer

    def close(self) -> None:
        """Nothing runs on."""


def squared(number: int) -> int:
    """Return the square; numbers below 0 are an error, and 13 ends the process."""
    if number < 0:
        raise ValueError(f"{number} is below 0")
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def own_number(part: object) -> int:
    """Return the number of the process that computes this."""
    return os.getpid()
