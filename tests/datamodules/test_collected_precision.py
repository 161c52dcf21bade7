"""Collected numbers that float32 would make equal: an error at first, a warning later."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.interface import RolloutError


class Clock(gymnasium.Env[Any, Any]):
    """Shows a place and the time, from some moment on; six steps of 20 ms.

    Args:
        since: First time, in seconds.
        late: From this reset on time counts since 1970.
        kind: ``"joined"``, ``"whole"``, ``"ticks"`` (int64 microseconds) or ``"reward"``.
    """

    def __init__(self, since: float, kind: str = "joined", late: int = 10_000) -> None:
        self.since, self.kind, self.late, self.resets = since, kind, late, 0
        place = spaces.Box(-9, 9, (2,), np.float32)
        whole = np.int64 if kind == "ticks" else np.float64
        time = spaces.Box(0, 2**62 if kind == "ticks" else np.inf, (1,), whole)
        both: dict[str, Any] = {"place": place, "time": time}
        if kind == "entries":
            both["camera"] = spaces.Box(0, 255, (8, 8, 3), np.uint8)
        self.observation_space = time if kind == "whole" else spaces.Dict(both)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        self.resets += 1
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        """Take a step."""
        self.steps += 1
        reward = self._time() if self.kind == "reward" else 0.0
        return self._observe(), reward, self.steps == 6, False, {}

    def _time(self) -> float:
        since = 1.7e9 if self.resets >= self.late else self.since
        return since + 0.02 * self.steps

    def _observe(self) -> Any:
        time = np.array([0.0 if self.kind == "reward" else self._time()])
        if self.kind == "ticks":
            time = np.array([round(1e6 * self._time())], np.int64)
        place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        seen: dict[str, Any] = {"place": place, "time": time}
        if self.kind == "entries":
            seen["camera"] = np.zeros((8, 8, 3), np.uint8)
        return time if self.kind == "whole" else seen


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("joined", "'observation', entry 2"),
        ("whole", "'observation', entry 0"),
        ("ticks", "'observation', entry 2"),
        ("reward", "'reward', entry 0"),
        ("entries", "'time', entry 0"),
    ],
)
def test_the_first_episodes_show_it(kind: str, place: str) -> None:
    collector = Collector(lambda: Clock(1.7e9, kind), num_envs=1)
    with pytest.raises(RolloutError, match=f"{place}: values near 1.7e.* would become equal"):
        collector.collect(None, 0, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Collector(lambda: Clock(5.0, kind), num_envs=1).collect(None, 0, 3)
    assert len(found.columns["action"]) == 18


def test_later_it_is_a_warning_once() -> None:
    collector = Collector(lambda: Clock(5.0, late=4), num_envs=1)
    collector.collect(None, 0, 3)
    with pytest.warns(UserWarning, match="'observation', entry 2: values near 1.7e.09") as warned:
        collector.collect(None, 3, 3)
        collector.collect(None, 6, 3)
    assert len(warned) == 1


def test_numbers_of_float32_are_not_kept_twice() -> None:
    collector = Collector("Pendulum-v1", num_envs=1, max_episode_steps=3)
    assert collector.interface.exact(np.zeros(3, np.float32)) == {}
