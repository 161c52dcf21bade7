"""Trials: several episodes of one task in a row, as one long episode.

    hindsight fit --config rl2 --data.env_kwargs '{trial: 4, randomise: {paying: [0, 2]}}'

A policy that remembers finds the task out in the first episodes and uses it in the others. What it
finds out by is shown: beside the observation what was done before, what that paid, and whether an
episode ended with it. What is drawn anew for every trial, and kept throughout, are the numbers of
``randomise``.

Reference: Duan et al. 2016, "RL^2: fast reinforcement learning via slow reinforcement learning",
arXiv 1611.02779, section 3.
"""

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from hindsight_rl.envs.entry_spaces import RolloutError
from hindsight_rl.envs.rewards import single

TRIAL = "trial"
"""What names the episodes of a trial among the arguments of an environment."""

_UNBOUNDED = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Trial(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose episodes are trials of n of its own.

    Observation: a ``Dict`` of what the environment shows (its entries, or ``observation``), of
    ``previous_action`` ``[A]`` (one-hot ``[n]`` for choices), ``previous_reward`` ``[1]`` and
    ``previous_end`` ``[1]``, 1 where an episode has just begun; all are 0 where a trial begins. An
    episode that ends within a trial is followed by the first observation of the next. The trial
    terminates with its last episode, however that ended: nothing after it counts.

    Args:
        env: Not yet reset.
        episodes: n, at least 1.

    Raises:
        ValueError: ``episodes`` is out of range, or the environment shows what has no place here.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], episodes: int) -> None:
        super().__init__(env)
        if isinstance(episodes, bool) or not isinstance(episodes, int) or episodes < 1:
            raise ValueError(
                f"trial is {episodes!r}: give how many episodes a trial has, at least 1, or leave "
                "it out"
            )
        self._episodes, self._ended = episodes, 0
        shown = _shown(env.observation_space)
        action = env.action_space
        if isinstance(action, spaces.Discrete):
            self._start: int | None = int(action.start)
            done = spaces.Box(0.0, 1.0, (int(action.n),), np.float32)
        elif isinstance(action, spaces.Box):
            self._start, width = None, int(np.prod(action.shape))
            low, high = (np.ravel(bound).astype(np.float32) for bound in (action.low, action.high))
            done = spaces.Box(low, high, (width,), np.float32)
        else:
            raise ValueError(f"trial needs actions of real numbers or one choice, not {action}")
        flag = spaces.Box(0.0, 1.0, (1,), np.float32)
        previous = [("action", done), ("reward", _UNBOUNDED), ("end", flag)]
        # In this order, which a plain dictionary would not keep.
        entries = [*shown, *((f"previous_{name}", space) for name, space in previous)]
        self.observation_space = spaces.Dict(entries)
        self._nothing = np.zeros(done.shape, np.float32)

    @property  # as it is of gymnasium's own Wrapper
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The environment's, with the steps of a whole trial."""
        spec = copy.copy(self.env.spec)
        if spec is not None and spec.max_episode_steps is not None:
            spec.max_episode_steps *= self._episodes
        return spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation of a trial.

        Args:
            seed: Of the trial: its further episodes go on with the environment's generator.
            options: Of the environment, for the first episode.

        Returns:
            Observation and info.
        """
        self._ended = 0
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with(observation, self._nothing, 0.0, ended=False), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step; where an episode ends within the trial, the next begins.

        Args:
            action: As the environment takes it.

        Returns:
            Observation, reward, whether the trial is over, False, and info.
        """
        observation, given, terminated, truncated, info = self.env.step(action)
        reward, ended = single(given, self.env), bool(terminated or truncated)
        self._ended += ended
        over = self._ended == self._episodes
        if ended and not over:
            observation, _ = self.env.reset()
        return (
            self._with(observation, self._shown_action(action), reward, ended),
            (reward),
            over,
            False,
            info,
        )

    def _shown_action(self, action: Any) -> NDArray[np.float32]:
        if self._start is None:
            return np.ravel(action).astype(np.float32)
        found = self._nothing.copy()
        found[int(action) - self._start] = 1.0
        return found

    def _with(
        self, observation: Any, action: NDArray[np.float32], reward: float, ended: bool
    ) -> dict[str, Any]:
        """Return an observation with what was before it."""
        own = dict(observation) if isinstance(observation, dict) else {"observation": observation}
        return own | {
            "previous_action": action,
            "previous_reward": np.array([reward], np.float32),
            "previous_end": np.array([ended], np.float32),
        }


def _shown(space: spaces.Space[Any]) -> list[tuple[str, spaces.Space[Any]]]:
    """Return the entries that an environment shows, by name."""
    if not isinstance(space, spaces.Dict):
        return [("observation", space)]
    if "desired_goal" in space.spaces:
        raise ValueError(
            "trial is for tasks that a policy must find out, and this environment shows it its "
            "goal: leave trial out, or wrap the environment so that desired_goal is not shown"
        )
    return list(space.spaces.items())


def trials(env: gymnasium.Env[Any, Any], episodes: int, source: object) -> Trial:
    """Return an environment whose episodes are trials.

    Args:
        env: Not yet reset; it is closed where that cannot be.
        episodes: Of a trial, at least 1.
        source: What made it, for messages.

    Returns:
        The environment.

    Raises:
        RolloutError: See :class:`Trial`.
    """
    try:
        return Trial(env, episodes)
    except ValueError as error:
        env.close()
        name = source if isinstance(source, str) else getattr(source, "__name__", "environment")
        raise RolloutError(f"{name}: {error}") from error
