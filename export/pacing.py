"""A fixed rate: ticks on an absolute grid, and how late each step is.

Tick k is due at ``start + k / rate``, computed from the start, so that neither the work of a step
nor a late one shifts those that follow. A step that takes longer than its period is followed at
once by the tick whose period has begun; ticks before that one are skipped and counted, never made
up for.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
KEPT = 1 << 20
"""Steps whose times are kept: the last ones, 17 minutes at 1 kHz."""


@dataclass(frozen=True)
class Times:
    """Median, 99th percentile and largest of some times, microseconds; NaN where there is none."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, ns: NDArray[np.int64]) -> "Times":
        """Return those of times in nanoseconds ``[N]``."""
        if not len(ns):
            return cls(math.nan, math.nan, math.nan)
        found = np.percentile(ns, [50, 99, 100]) / 1000.0
        return cls(*(float(value) for value in found))

    def __str__(self) -> str:
        return f"{self.p50:.0f} / {self.p99:.0f} / {self.max:.0f} us"


@dataclass(frozen=True)
class Pace:
    """How a rate was kept.

    Attributes:
        rate: Ticks a second that were asked for.
        steps: Steps that were taken.
        overran: Steps that ended after the next tick was due: a missed deadline.
        skipped: Ticks at which no step began.
        late: From when a step was due to when it began.
        busy: From when it began to when it ended.
    """

    rate: float
    steps: int
    overran: int
    skipped: int
    late: Times
    busy: Times

    def __str__(self) -> str:
        return (
            f"{self.rate:g} Hz, {self.steps:,} steps; late {self.late} (median, p99, max); busy "
            f"{self.busy}; {self.overran:,} overran, {self.skipped:,} ticks skipped"
        )


class Pacer:
    """Waits for the ticks of a rate.

    Args:
        rate: Ticks a second, Hz.
        spin: Last microseconds before a tick that are waited for without sleep. It lowers the
            median, and on a busy machine it makes more misses.
        clock: Nanoseconds of a clock that never jumps.
        sleep: Sleeps for seconds.

    Raises:
        ValueError: The rate is not positive, or ``spin`` is negative.
    """

    def __init__(
        self,
        rate: float,
        *,
        spin: float = 0.0,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0.0 < rate < SECOND_NS:
            raise ValueError(f"rate is {rate}, and must be above 0 Hz")
        if not spin >= 0.0:
            raise ValueError(f"spin is {spin}, and must not be negative")
        self.rate, self._spin = float(rate), round(1000.0 * spin)
        self._clock, self._sleep = clock, sleep
        self._start = self._began = 0
        self.tick = 0
        """Number of the next tick of this grid."""
        self.steps = self.overran = self.skipped = 0
        self.missed_in_row = 0
        """Ticks in a row up to now at which nothing was finished in time."""
        # Written once now, so that no page is missing while a loop runs.
        self._late = np.ones(KEPT, np.int64)
        self._busy = np.ones(KEPT, np.int64)

    def begin(self) -> None:
        """Begin a grid: its first tick is due now."""
        self._start, self.tick, self.missed_in_row = self._clock(), 0, 0

    def wait(self) -> int:
        """Wait for the next tick; return by how much it is late, nanoseconds."""
        due, clock = self._due(self.tick), self._clock
        while (now := clock()) < due:
            if now < due - self._spin:
                self._sleep((due - self._spin - now) / SECOND_NS)
        self._began = now
        self._late[self.steps % KEPT] = now - due
        return now - due

    def done(self) -> None:
        """Note that the step of this tick has ended, and find the next tick."""
        now, following = self._clock(), self.tick + 1
        self._busy[self.steps % KEPT] = now - self._began
        self.steps += 1
        if now <= self._due(following):
            self.missed_in_row, self.tick = 0, following
            return
        begun = int((now - self._start) * self.rate / SECOND_NS)
        self.tick = max(following, begun)
        self.overran += 1
        self.skipped += self.tick - following
        self.missed_in_row += 1 + self.tick - following

    def pace(self) -> Pace:
        """Return how the rate was kept so far, of all grids together."""
        kept = min(self.steps, KEPT)
        late, busy = Times.of(self._late[:kept]), Times.of(self._busy[:kept])
        return Pace(self.rate, self.steps, self.overran, self.skipped, late, busy)

    def _due(self, tick: int) -> int:
        return self._start + round(tick * SECOND_NS / self.rate)
