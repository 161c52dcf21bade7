"""A policy that answers at the ticks of a rate, for whatever loop plays it in an environment."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.feed import Observation
from hindsight_rl.export.pacing import SECOND_NS, Pacer, Times
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.propensities import Drawn

Array = NDArray[Any]


class PacedPolicy:
    """Waits for the next tick before it answers; one environment at a time is played with it.

    A grid of ticks begins with each episode. A step ends where the next one is asked for, so that
    what the environment does is part of it.

    Args:
        policy: The policy.
        pacer: The rate.
    """

    def __init__(self, policy: OnnxPolicy, pacer: Pacer) -> None:
        self._policy, self._pacer, self._pending = policy, pacer, False
        self._begun = time.time_ns() - time.monotonic_ns()
        self.stamps: list[int] = []
        """When each step began, ns since 1970."""
        self._asked: list[int] = []

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return the policy's, and begin a grid."""
        self._pending = False
        self._pacer.begin()
        return self._policy.initial_state(n)

    def step(
        self,
        observation: Observation,
        task: ArrayLike | None,
        state: Mapping[str, Array],
        noise: NDArray[np.int64],
    ) -> tuple[Array, dict[str, Array]]:
        """Wait, and return the policy's step."""
        found = self.drawn(observation, task, state, noise)
        return found.action, dict(found.state)

    def drawn(
        self,
        observation: Observation,
        task: ArrayLike | None,
        state: Mapping[str, Array],
        noise: NDArray[np.int64],
    ) -> Drawn:
        """Wait, and return the policy's step and how likely it is."""
        if self._pending:
            self._pacer.done()
        self._pacer.wait()
        self._pending, began = True, time.monotonic_ns()
        self.stamps.append(began + self._begun)
        found = self._policy.drawn(observation, task, state, noise)
        self._asked.append(time.monotonic_ns() - began)
        return found

    def with_executed(self, state: Mapping[str, Array], action: Array) -> dict[str, Array]:
        """Return the policy's."""
        return self._policy.with_executed(state, action)

    def unstated(self, low: NDArray[np.float32], high: NDArray[np.float32], *, mixed: bool) -> str:
        """Return the policy's."""
        return self._policy.unstated(low, high, mixed=mixed)

    def report(self) -> dict[str, Any]:
        """Return how the rate was kept, in plain values, times in microseconds."""
        pace, asked = self._pacer.pace(), Times.of(np.array(self._asked, np.int64))
        times = {"late_us": pace.late, "step_us": pace.busy, "act_us": asked}
        return {
            "rate_hz": pace.rate,
            "steps": len(self._asked),
            "overran": pace.overran,
            "skipped": pace.skipped,
            **{name: {"p50": t.p50, "p99": t.p99, "max": t.max} for name, t in times.items()},
        }


def stamps_at(rate: float, count: int) -> list[int]:
    """Return when steps would have been at a rate, the last one now, ns since 1970."""
    period = round(SECOND_NS / rate)
    now = time.time_ns()
    return [now - period * (count - 1 - row) for row in range(count)]
