"""The control loop: an exported policy at its rate, with bad readings and steps that are late.

    loop = ControlLoop(OnnxPolicy("policy.onnx"), read_sensors, send, real_time=RealTime())
    report = loop.run(running=lambda: not stopped())

Each tick: read, judge the reading (``Sensors``), ask the policy, limit how fast the command
changes, send. A bad reading is not shown to the policy: its state and the rest of its chunk wait,
and the last command is sent again, until there were too many in a row.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.contract import Contract
from hindsight_rl.export.feed import Observation
from hindsight_rl.export.limits import step_limit
from hindsight_rl.export.pacing import Pace, Pacer
from hindsight_rl.export.probe import probe_of
from hindsight_rl.export.realtime import RealTime as RealTime
from hindsight_rl.export.realtime import real_time
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.sensors import Reading, Sensors
from hindsight_rl.export.sensors import Sensed as Sensed

Array = NDArray[Any]
_WARM = 50
Task = ArrayLike | Callable[[], ArrayLike] | None


class Steps(Protocol):
    """Receives the steps of a loop, such as a ``Recorder``."""

    def step(
        self, observation: Observation, action: Any, task: ArrayLike | None, **numbers: float
    ) -> None:
        """Take a step: what was observed, what was sent."""

    def gap(self, reason: str) -> None:
        """Take note of a tick at which the policy was not asked."""


@dataclass(frozen=True)
class LoopReport:
    """How a loop went.

    Attributes:
        reason: Why it ended.
        fault: Whether that is a fault: too many bad readings or missed deadlines.
        pace: How the rate was kept.
        held: Ticks with a bad reading, by what was wrong.
        limited: Steps at which the command was limited in how fast it changes.
        denied: Real-time options that were not granted, one sentence each.
    """

    reason: str
    fault: bool
    pace: Pace
    held: dict[str, int] = field(default_factory=dict)
    limited: int = 0
    denied: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"ended       {self.reason}", f"loop        {self.pace}"]
        lines += [f"held        {count:,} x {why}" for why, count in self.held.items()]
        lines += [f"limited     {self.limited:,} commands"] if self.limited else []
        lines += [f"real time   {'; '.join(self.denied)}"] if self.denied else []
        return "\n".join(lines)


class ControlLoop:
    """Runs a policy at a fixed rate.

    Args:
        policy: The policy; this loop is the only one that asks it.
        read: Returns the observation ``[O]`` (by entry where there are several), in the units of
            the contract; a ``Sensed`` with its age; or ``None`` where nothing has come.
        write: Sends a command, in the units and bounds of the contract.
        rate: Steps a second; that of the contract if ``None``.
        task: ``[Z]``, or a function that returns it at each step.
        sensors: When readings are bad, and how long the last command is held.
        missed_limit: Ticks in a row without a command in time after which the loop ends; ``None``:
            they are only counted.
        real_time: What is asked of the system; ``None``: nothing.
        spin: Last microseconds before a tick without sleep, see :class:`Pacer`.
        start: ``[A]``, the command in force before the first one, from which its change is limited.
            A later run is limited from the last command, and repeats only its own.
        recorder: Receives every step.

    Raises:
        ValueError: No rate is known, a number is out of range, or bounds of sensors are of other
            entries than the policy's.
    """

    def __init__(
        self,
        policy: OnnxPolicy,
        read: Callable[[], Reading],
        write: Callable[[Any], object],
        *,
        rate: float | None = None,
        task: Task = None,
        sensors: Sensors = Sensors(),
        missed_limit: int | None = 3,
        real_time: RealTime | None = None,
        spin: float = 0.0,
        start: ArrayLike | None = None,
        recorder: Steps | None = None,
    ) -> None:
        rate = rate_of(policy.contract, rate)
        if missed_limit is not None and missed_limit < 1:
            raise ValueError(f"missed_limit is {missed_limit}, and must be at least 1")
        self._policy, self._read, self._write = policy, read, write
        self._task, self._sensors, self._missed_limit = task, sensors, missed_limit
        self._real_time, self._recorder = real_time, recorder
        self._pacer = Pacer(rate, spin=spin)
        limit = step_limit(policy.contract)
        self._step = None if limit is None else limit / rate
        self._last = None if start is None else np.asarray(start, np.float32)
        self._repeated = self._last
        seen = policy.contract["observation"]
        entries = seen.get("entries") or {"": seen}
        self._names = {name: part.get("names") or () for name, part in entries.items()}
        sensors.check(tuple(seen.get("entries") or ()))
        self._held: dict[str, int] = {}
        self._limited = self._bad_in_row = 0

    def run(
        self,
        *,
        seconds: float | None = None,
        steps: int | None = None,
        running: Callable[[], bool] | None = None,
    ) -> LoopReport:
        """Run one episode: reset the policy, and step until something ends it.

        A fault ends it without a further command: what is safe then, only the caller knows. Ctrl-C
        ends it, too.

        Args:
            seconds: After which it ends, of ticks.
            steps: Ticks after which it ends.
            running: Asked at every tick whether to go on.

        Returns:
            How it went; counts are those of all runs of this loop.
        """
        if seconds is not None:
            most = round(seconds * self._pacer.rate)
            steps = most if steps is None else min(most, steps)
        _warm_up(self._policy)
        self._policy.reset()
        self._bad_in_row, reason, fault = 0, "interrupted", False
        with real_time(self._real_time) as denied, suppress(KeyboardInterrupt):
            self._pacer.begin()
            reason, fault = self._played(steps, running)
        self._repeated = None  # where the robot is when a next run begins, nobody here knows
        pace = self._pacer.pace()
        return LoopReport(reason, fault, pace, dict(self._held), self._limited, denied)

    def _played(self, steps: int | None, running: Callable[[], bool] | None) -> tuple[str, bool]:
        """Step until there is a reason to end; return it, and whether it is a fault."""
        pacer, limit = self._pacer, self._missed_limit
        while True:
            if steps is not None and pacer.tick >= steps:
                return "done", False
            if running is not None and not running():
                return "stopped", False
            why = self._one(pacer.wait())
            pacer.done()
            if why:
                return why, True
            if limit is not None and pacer.missed_in_row >= limit:
                return f"{pacer.missed_in_row} deadlines in a row were missed", True

    def _one(self, late: int) -> str:
        """Take a step; return why the loop must end, "" where it goes on."""
        observation, why = self._sensors.judged(self._read(), self._names)
        if why or observation is None:
            return self._hold(why)
        self._bad_in_row = 0
        task = self._task() if callable(self._task) else self._task
        try:
            action = self._policy.act(observation, task)
        except ValueError as error:  # a wrong shape, or an answer that is not finite
            return str(error)
        sent = self._changed(action)
        self._write(sent)
        if sent is not action:
            self._policy.executed(sent)
        self._last = self._repeated = sent
        if self._recorder is not None:
            self._recorder.step(observation, sent, task, late_us=late / 1000.0)
        return ""

    def _hold(self, why: str) -> str:
        """Send the last command again; return why the loop must end after a bad reading."""
        self._held[why] = self._held.get(why, 0) + 1
        self._bad_in_row += 1
        if self._recorder is not None:
            self._recorder.gap(why)
        if self._bad_in_row > self._sensors.hold:
            return f"{self._bad_in_row} bad readings in a row, the last: {why}"
        if self._repeated is not None:
            self._write(self._repeated)
        return ""

    def _changed(self, action: Any) -> Any:
        """Return the action nearest to the wanted one that the rate limit allows."""
        if self._step is None or self._last is None:
            return action
        sent = np.clip(action, self._last - self._step, self._last + self._step)
        if np.array_equal(sent, action):
            return action
        self._limited += 1
        return sent.astype(np.float32)


def rate_of(contract: Contract, given: float | None) -> float:
    """Return the rate of a loop.

    Args:
        contract: Of the policy.
        given: The one asked for; ``None``: the contract's.

    Returns:
        Steps a second.

    Raises:
        ValueError: Neither is known.
    """
    stated = contract["control_rate_hz"]
    found = stated if given is None else given
    if stated is not None and given is not None and abs(given / stated - 1.0) > 0.01:
        warnings.warn(
            f"the loop runs at {given:g} Hz, and the log had {stated:g} Hz: an action may mean "
            "something else at another rate",
            stacklevel=3,
        )
    if found is None:
        raise ValueError(
            "the contract states no control rate (control_rate_hz), as the log did not: give a rate"
        )
    return float(found)


def _warm_up(policy: OnnxPolicy) -> None:
    """Ask the graph of what the contract's probe holds: its first answers take far longer."""
    probe = probe_of(policy.contract, policy.signature)
    raw = {given.name: given.raw(probe.inputs[given.name])[:1] for given in policy.signature.given}
    task = raw.pop("task", None)
    observation: Observation = {
        given.label: raw[given.name] for given in policy.signature.observation
    }
    if not policy.signature.entries:
        observation = raw[policy.signature.observation[0].name]
    counters = np.zeros((1, 3), np.int64)
    for _ in range(_WARM):
        policy.step(observation, task, policy.initial_state(1), counters)
