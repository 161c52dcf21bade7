"""Environments of a few steps, for tests of what collects experience.

Imported as ``tiny_envs`` (``tests`` is on pytest's path); ``tiny_envs:Tiny/Reach-v0`` and
``tiny_envs:Tiny/Walk-v0`` are their Gymnasium ids.
"""

from typing import Any

import gymnasium
import numpy as np
from episode_logs import HIGH, LOW
from gymnasium import spaces
from numpy.typing import NDArray

HORIZON = 6


class Walk(gymnasium.Env[Any, Any]):
    """A point on a line that is pushed back and forth; it ends beyond 1.5, success beyond 1.

    Args:
        discrete: Left or right, instead of a number in [-1, 1].
        broken: Step whose observation is not a number, counted from 1; 0 for none.
        endless: Never ends.
    """

    def __init__(self, discrete: bool = False, broken: int = 0, endless: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        if discrete:
            self.action_space = spaces.Discrete(2)
        self.discrete, self.broken, self.endless = discrete, broken, endless
        self.resets: list[int | None] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation: position and time."""
        super().reset(seed=seed)
        self.resets.append(seed)
        self.position, self.time, self.over = float(self.np_random.normal(0, 0.3)), 0, False
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        assert not self.over, "stepped after its end"
        push = 2.0 * int(action) - 1.0 if self.discrete else float(action[0])
        self.position += 0.5 * push + float(self.np_random.normal(0, 0.1))
        self.time += 1
        terminated = not self.endless and abs(self.position) > 1.5
        truncated = not self.endless and self.time == HORIZON
        self.over = terminated or truncated
        info = {"is_success": self.position > 1}
        return self._observe(), self.position, terminated, truncated, info

    def _observe(self) -> Any:
        position = np.nan if self.broken and self.time == self.broken else self.position
        return np.array([position, self.time], np.float32)


class Reach(gymnasium.Env[Any, Any]):
    """A point in the plane that is sent to a goal, which it reaches within 0.3."""

    def __init__(self) -> None:
        place = spaces.Box(-5.0, 5.0, (2,), np.float32)
        self.observation_space = spaces.Dict(
            {"observation": place, "achieved_goal": place, "desired_goal": place}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation."""
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        self.place = self.place + 0.4 * np.asarray(action, np.float32)
        reached = bool(np.linalg.norm(self.place - self.goal) <= 0.3)
        return self._observe(), float(reached) - 1.0, reached, False, {"is_success": reached}

    def _observe(self) -> Any:
        return {
            "observation": self.place,
            "achieved_goal": self.place,
            "desired_goal": self.goal,
        }


class Arms(Walk):
    """The walk, observed as a dictionary whose joined keys sort otherwise than the keys do."""

    def __init__(self) -> None:
        super().__init__()
        one, three = (spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in (1, 3))
        self.observation_space = spaces.Dict({"arm": spaces.Dict({"q": one}), "arm-left": three})

    def _observe(self) -> Any:
        here = super()._observe()
        return {"arm": {"q": here[:1]}, "arm-left": np.repeat(here[1:], 3)}


gymnasium.register("Tiny/Walk-v0", Walk)
gymnasium.register("Tiny/Arms-v0", Arms)
gymnasium.register("Tiny/Reach-v0", Reach, max_episode_steps=HORIZON)


class Line(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Four steps; the reward is minus the distance of the action's first number from -1.5."""

    def __init__(self, offset: float = 0.0) -> None:
        self.observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
        low, high = np.array(LOW, np.float32), np.array(HIGH, np.float32)
        self.action_space = gymnasium.spaces.Box(low, high)
        self.offset = offset

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.steps += 1
        reward = self.offset - abs(float(action[0]) + 1.5)
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return observation, reward, self.steps == 4, False, {"is_success": reward > 0}


class Look(gymnasium.Env[Any, Any]):
    """A bright square that only the camera sees is to be met by a hand that only the state knows.

    The state is the hand's place and the time; the reward is minus the distance.
    """

    SIDE = 16

    def __init__(self) -> None:
        camera = spaces.Box(0, 255, (self.SIDE, self.SIDE, 3), np.uint8)
        state = spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.observation_space = spaces.Dict([("state", state), ("camera", camera)])
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation."""
        super().reset(seed=seed)
        self.column = int(self.np_random.integers(2, self.SIDE - 2))
        self.hand, self.time = float(self.np_random.uniform(-1, 1)), 0
        return self._observe(), {}

    @property
    def goal(self) -> float:
        """Where the square is, in [-1, 1]."""
        return 2.0 * self.column / (self.SIDE - 1) - 1.0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move the hand by half the action."""
        self.hand = float(np.clip(self.hand + 0.5 * float(action[0]), -1, 1))
        self.time += 1
        distance = abs(self.hand - self.goal)
        done = self.time == HORIZON
        return self._observe(), -distance, False, done, {"is_success": distance < 0.15}

    def _observe(self) -> Any:
        camera = np.full((self.SIDE, self.SIDE, 3), 20, np.uint8)
        camera[6:10, self.column - 2 : self.column + 2] = (240, 200, 40)
        return {"state": np.array([self.hand, self.time], np.float32), "camera": camera}


gymnasium.register("Tiny/Look-v0", "tiny_envs:Look")  # datasets name it


class Drift(gymnasium.Env[Any, Any]):
    """A point on a line that drifts, s' = s + a + drift; an expert goes back, a = -s.

    Args:
        discrete: One of the pushes -1, 0 and 1, instead of a number in [-9, 9].
        hidden: The policy sees the time alone.
    """

    metadata = {"expert": "tiny_envs:back"}

    def __init__(self, discrete: bool = False, hidden: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-9.0, 9.0, (1,), np.float32)
        if discrete:
            self.action_space = spaces.Discrete(3, start=-1)
        self.discrete, self.hidden = discrete, hidden

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first place."""
        super().reset(seed=seed)
        self.place, self.time = self.np_random.normal(0, 0.5), 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move, and drift."""
        push = float(action) if self.discrete else float(action[0])
        self.place += push + self.np_random.normal(0, 0.5)
        self.time += 1
        return self._observe(), -abs(self.place), False, self.time == 10, {}

    def _observe(self) -> Any:
        return np.array([self.time if self.hidden else self.place], np.float32)


def back(observation: Any, task: Any, env: Any) -> Any:
    """Return the action that leads to 0, as the environment knows its place."""
    place = np.array([env.unwrapped.place])
    if env.unwrapped.discrete:
        return -np.sign(place).astype(np.int64)
    return -place[:, None]


class Counting:
    """An expert that keeps how often it was asked, and answers less with each question."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, observation: Any, task: Any, env: Any) -> Any:
        """Return a part of the way back."""
        self.count += 1
        return -observation / (1.0 + 0.01 * self.count)

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"count": self.count}

    def load_state_dict(self, state: Any) -> None:
        """Take the count over."""
        self.count = state["count"]


gymnasium.register("Tiny/Drift-v0", Drift)
