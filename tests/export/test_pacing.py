"""Ticks on an absolute grid, by a clock of the test's own; real-time options are taken back."""

import gc
import os

import numpy as np
import pytest

from hindsight_rl.export.pacing import Pacer, Times
from hindsight_rl.export.realtime import RealTime, real_time

MS = 1_000_000


class Clock:
    """A clock that stands still but for sleep, which wakes late, and for work."""

    def __init__(self, late: int = 0) -> None:
        self.now, self.late, self.slept = 0, late, 0

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now += round(seconds * 1e9) + self.late


def pacer(clock: Clock, rate: float = 100.0) -> Pacer:
    made = Pacer(rate, clock=clock, sleep=clock.sleep)
    made.begin()
    return made


def test_lateness_and_work_do_not_shift_the_grid() -> None:
    """100 Hz, woken 1 ms late, 4 ms of work: step k begins at 10 k + 1 ms, never later."""
    clock = Clock(late=MS)
    found = pacer(clock)
    began = []
    for _ in range(1000):
        found.wait()
        began.append(clock.now)
        clock.now += 4 * MS
        found.done()
    assert began[0] == 0  # due at once
    np.testing.assert_array_equal(began[1:], 10 * MS * np.arange(1, 1000) + MS)
    pace = found.pace()
    assert (pace.steps, pace.overran, pace.skipped) == (1000, 0, 0)
    assert pace.late == Times(1000.0, 1000.0, 1000.0) and pace.busy.p50 == 4000.0


def test_long_steps_skip_whole_ticks_and_are_counted() -> None:
    """Work of 1, 13, 1, 36, 1 ms: after 13 ms tick 2 begins 3 ms late, after 36 the 6th 9 ms late.

    Ticks begin at 0, 10, 23, 30, 66 ms: the second step overran, no tick is skipped (tick 2 begins
    within its period); the fourth overran, and ticks 4 and 5 are skipped.
    """
    clock = Clock()
    found = pacer(clock)
    began, late, rows = [], [], []
    for work in (1, 13, 1, 36, 1):
        late.append(found.wait() // MS)
        began.append(clock.now // MS)
        clock.now += work * MS
        found.done()
        rows.append(found.missed_in_row)
    assert began == [0, 10, 23, 30, 66] and late == [0, 0, 3, 0, 6]
    assert (found.overran, found.skipped) == (2, 2)
    assert rows == [0, 1, 0, 3, 0]


def test_a_rate_that_is_no_whole_number_of_ns_does_not_drift() -> None:
    clock = Clock()
    found = pacer(clock, 3.0)
    for _ in range(3001):
        found.wait()
        found.done()
    assert clock.now == 1000 * 10**9


def test_spinning_waits_without_sleep_at_the_end() -> None:
    class Running(Clock):
        def __call__(self) -> int:
            self.now += 10_000
            return self.now

    clock = Running(late=100_000)
    made = Pacer(100.0, spin=200.0, clock=clock, sleep=clock.sleep)
    made.begin()
    made.wait()
    made.done()
    assert made.wait() < 20_000 and clock.slept == 1


@pytest.mark.parametrize(
    ("rate", "spin", "message"), [(0.0, 0.0, "rate is 0.0"), (1.0, -1.0, "spin is -1.0")]
)
def test_numbers_out_of_range(rate: float, spin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pacer(rate, spin=spin)


def test_options_are_taken_back() -> None:
    before = os.sched_getscheduler(0)
    with real_time(RealTime()) as denied:
        assert not gc.isenabled() and gc.get_freeze_count() > 0
        fifo = not any("SCHED_FIFO" in line for line in denied)
        assert (os.sched_getscheduler(0) == os.SCHED_FIFO) == fifo
    assert gc.isenabled() and gc.get_freeze_count() == 0
    assert os.sched_getscheduler(0) == before
    with real_time(None) as denied:
        assert denied == () and gc.isenabled()


def test_what_is_not_granted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with real_time(RealTime(lock_memory=False, freeze_gc=False)) as denied:
        pass
    said = "no SCHED_FIFO (needs CAP_SYS_NICE, or rtprio in limits.conf): Operation not permitted"
    assert denied == (said,)


@pytest.mark.parametrize("given", [{"priority": 100}, {"timer_slack": -1}])
def test_options_out_of_range(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        RealTime(**given)
