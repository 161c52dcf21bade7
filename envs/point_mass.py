"""Point mass: push a mass about in a square; a task weighs position, velocity and effort."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.drawing import Canvas

Floats = NDArray[np.float32]
Observation = dict[str, Floats]

LOW = (-1.0, -1.0, -1.0, -1.0, -1.0)
HIGH = (1.0, 1.0, 1.0, 1.0, 0.0)
"""Tasks are uniform between ``LOW`` and ``HIGH``: weights of x, y, x and y velocity, and effort."""

_TIME_STEP = 0.1


class PointMass(gymnasium.Env[Any, Any]):
    """Move so that a weighted sum of features is large. The task (``desired_goal``) is the weights.

    Observation ``[4]``: position (x, y) and velocity, all in [-1, 1]. Action ``[2]``: force in
    [-1, 1], on a mass of 1 for 0.1 s. Speed is limited to 1 along each axis, and the walls of the
    square stop the mass. Features (``achieved_goal``, ``[5]``): position and velocity after the
    step, and the squared length of its action; nought before the first. Reward: weights times
    features. No episode ends. ``reset(options={"start": [4], "task": [5]})`` gives either.

    Args:
        render_mode: ``"rgb_array"`` or ``None``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        effort = spaces.Box(
            np.array([-1, -1, -1, -1, 0], np.float32), np.array([1, 1, 1, 1, 2], np.float32)
        )
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(-1.0, 1.0, (4,), np.float32),
                "achieved_goal": effort,
                "desired_goal": spaces.Box(np.array(LOW, np.float32), np.array(HIGH, np.float32)),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._state, self._effort = np.zeros(4, np.float32), np.float32(0)
        self._task = np.zeros(5, np.float32)
        self._trail: list[Floats] = []

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode: at rest, anywhere.

        Args:
            seed: Seed of the environment's generator; ``None`` goes on with the present one.
            options: ``start`` and ``task``, in the spaces of observation and task.

        Returns:
            Observation, and an empty dictionary.
        """
        super().reset(seed=seed)
        given = {name: self._read(name, value) for name, value in (options or {}).items()}
        position = self.np_random.uniform(-1.0, 1.0, 2)
        task = self.np_random.uniform(LOW, HIGH)
        start = np.concatenate([position, np.zeros(2)]).astype(np.float32)
        self._state = given.get("start", start)
        self._task = given.get("task", task.astype(np.float32))
        self._effort, self._trail = np.float32(0), [self._state[:2]]
        return self._observe(), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: ``[2]``, force, clipped to [-1, 1].

        Returns:
            Observation, reward, False, False, and an empty dictionary.
        """
        self._state, force = _moved(self._state, np.asarray(action, np.float32))
        self._effort = np.float32(force @ force)
        if self.render_mode is not None:
            self._trail.append(self._state[:2])
        observation = self._observe()
        reward = float(self.compute_reward(observation["achieved_goal"], self._task))
        return observation, reward, False, False, {}

    def foresee(
        self, observation: ArrayLike, action: ArrayLike, task: ArrayLike | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return what follows actions wherever the mass is: what planners ask.

        Args:
            observation: ``[R, 4]``.
            action: ``[R, 2]``.
            task: ``[R, 5]``; ``None``: nothing pays.

        Returns:
            Observations ``[R, 4]``, rewards ``[R]``, and False ``[R]``.
        """
        state, force = _moved(np.asarray(observation, np.float32), np.asarray(action, np.float32))
        effort = np.square(force).sum(-1, keepdims=True)
        features = np.concatenate([state, effort], axis=-1)
        weights = np.zeros(5, np.float32) if task is None else task
        ended = self.compute_terminated(features, weights)
        return state, self.compute_reward(features, weights), ended

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps with features ``achieved_goal``.

        Args:
            achieved_goal: ``[..., 5]``, features.
            desired_goal: ``[..., 5]``, weights.
            info: Not used.

        Returns:
            ``[...]`` float32.
        """
        features = np.asarray(achieved_goal, np.float32)
        reward: Floats = (features * np.asarray(desired_goal, np.float32)).sum(-1)
        return reward

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> NDArray[np.bool_]:
        """Return False for each step.

        Args:
            achieved_goal: ``[..., 5]``, features.
            desired_goal: ``[..., 5]``, weights.
            info: Not used.

        Returns:
            ``[...]`` bool.
        """
        shape = np.broadcast_shapes(np.shape(achieved_goal), np.shape(desired_goal))
        return np.zeros(shape[:-1], np.bool_)

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture ``[330, 330, 3]``; a green line shows the weights of the position."""
        if self.render_mode is None:
            return None
        canvas = Canvas.of_cells(np.zeros((2, 2), np.bool_), scale=150, rim=0.1, low=(-1, -1))
        canvas.line([(0, 0), _drawn(self._task[:2])], "goal", thickness=7)
        canvas.disc(_drawn(self._trail[0]), 0.04, "start")
        canvas.line([_drawn(position) for position in self._trail], "trail")
        canvas.disc(_drawn(self._state[:2]), 0.05, "agent")
        return canvas.pixels

    def _observe(self) -> Observation:
        return {
            "observation": self._state.copy(),
            "achieved_goal": np.append(self._state, self._effort),
            "desired_goal": self._task.copy(),
        }

    def _read(self, name: str, value: Any) -> Floats:
        """Return an option as an array.

        Args:
            name: Of the option.
            value: Of the option.

        Returns:
            float32.

        Raises:
            ValueError: It is unknown, or outside its space.
        """
        spaces_of = {"start": "observation", "task": "desired_goal"}
        if name not in spaces_of:
            raise ValueError(f"options has {name!r}; known are 'start' and 'task'")
        space = self.observation_space[spaces_of[name]]  # type: ignore[index]
        array = np.array(value, np.float32)
        if not space.contains(array):
            raise ValueError(f"{name} is {value}: it must lie in {space}")
        return array


def _moved(state: Floats, action: Floats) -> tuple[Floats, Floats]:
    """Return states ``[..., 4]`` after a step, and the force ``[..., 2]`` that acted, float32."""
    force = np.clip(action, -1.0, 1.0)
    velocity = np.clip(state[..., 2:] + _TIME_STEP * force, -1.0, 1.0)
    free = state[..., :2] + _TIME_STEP * velocity
    position = np.clip(free, -1.0, 1.0)
    velocity = np.where(position == free, velocity, np.float32(0))
    return np.concatenate([position, velocity], axis=-1).astype(np.float32), force


def _drawn(position: Floats) -> Floats:
    """Return where a position (x, y) is drawn: x to the right, y upwards."""
    return np.array([-position[1], position[0]], np.float32)
