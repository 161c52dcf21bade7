"""Goal environments of others, as task environments: what those of Gymnasium-Robotics lack."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.rewards import single

Floats = NDArray[np.float32]
Observation = dict[str, Floats]

_PARTS = ("observation", "achieved_goal", "desired_goal")


class TaskGoals(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A goal environment whose rewards and ends can be computed for any goals, many at once.

    ``rollout`` and the learners play a goal environment without this wrapper. It adds: float32
    throughout; ``compute_reward`` and ``compute_terminated`` with leading batch dimensions that
    broadcast; ``info["is_success"]``; and, if wanted, an end at the goal. ::

        env = gymnasium.make("gymnasium_robotics:FetchReach-v4")
        env = TaskGoals(env, ends=True)

    Args:
        env: Its observations are a ``Dict`` with ``observation``, ``achieved_goal`` and
            ``desired_goal``, and it has ``compute_reward``.
        success_reward: The reward from which on a step counts as success: 0 for sparse rewards of
            -1 and 0 (Fetch), 1 for those of 0 and 1 (PointMaze), minus a distance for dense ones.
        ends: Success terminates the episode.

    Raises:
        ValueError: The environment is no goal environment.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], success_reward: float = 0.0, ends: bool = False
    ) -> None:
        super().__init__(env)
        space = env.observation_space
        known = isinstance(space, spaces.Dict) and all(
            isinstance(space.spaces.get(name), spaces.Box) for name in _PARTS
        )
        if not known or not env.has_wrapper_attr("compute_reward"):
            raise ValueError(
                f"{env}: observes {space}, and a goal environment observes a Dict of boxes named "
                f"{', '.join(_PARTS)}, and has compute_reward"
            )
        self.success_reward, self.ends = success_reward, ends
        self._reward = env.get_wrapper_attr("compute_reward")
        self.observation_space = spaces.Dict(
            {name: _as_float32(space[name]) for name in _PARTS}  # type: ignore[index]
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode, and the environment's info."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _observe(observation), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: As the environment takes it.

        Returns:
            Observation, the environment's reward, terminated, truncated, and the info with
            ``is_success``.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = single(reward, self)
        success = reward >= self.success_reward
        terminated = bool(terminated) or (success and self.ends)
        with_success = {**info, "is_success": success}
        return _observe(observation), reward, terminated, bool(truncated), with_success

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps that led to ``achieved_goal``.

        Args:
            achieved_goal: ``[..., Z]``.
            desired_goal: ``[..., Z]``; the leading dimensions of both broadcast.
            info: Passed on to the environment.

        Returns:
            ``[...]`` float32.
        """
        goals = np.broadcast_arrays(achieved_goal, desired_goal)
        return np.asarray(self._reward(*goals, info or {}), np.float32)

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> NDArray[np.bool_]:
        """Return whether steps that led to ``achieved_goal`` end the episode by success.

        Args:
            achieved_goal: ``[..., Z]``.
            desired_goal: ``[..., Z]``; the leading dimensions of both broadcast.
            info: Passed on to the environment.

        Returns:
            ``[...]`` bool.
        """
        success = self.compute_reward(achieved_goal, desired_goal, info) >= self.success_reward
        return success & self.ends


def _as_float32(space: spaces.Box) -> spaces.Box:
    return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))


def _observe(observation: Any) -> Observation:
    return {name: np.array(observation[name], np.float32) for name in _PARTS}
