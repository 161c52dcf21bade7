"""Environments that are stepped together, each episode with a seed of its own.

Where an environment registers a class of many at once (``vector_entry_point``) whose episodes the
caller may start one by one, that is used; else there are so many single ones. Seed for seed the
episodes are the same.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from hindsight_rl.envs.interface import Env, EnvSource, make
from hindsight_rl.envs.randomised import RANDOMISE
from hindsight_rl.envs.rewards import single
from hindsight_rl.envs.trials import TRIAL


class Step(NamedTuple):
    """Result of one step of an environment; ``success`` is ``None`` where it is not reported."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None


class Lockstep(Protocol):
    """Environments by their numbers from 0."""

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Any]:
        """Return the first observations of new episodes.

        Args:
            seeds: Seed of the episode by environment.

        Returns:
            Observation by environment.
        """

    def step(self, actions: Mapping[int, Any]) -> dict[int, Step]:
        """Return what a step gave in the environments that have an action; the others rest.

        Args:
            actions: As a single environment takes it, by environment.

        Returns:
            Outcome by environment.
        """

    def close(self) -> None:
        """Close all of them."""


class Singles:
    """One environment after another; they are made when they are first reset.

    Args:
        source: Gymnasium id, or a function that makes an environment.
        env_kwargs: Passed to ``gymnasium.make``.
        first: Environment 0, made already.
    """

    def __init__(self, source: EnvSource, env_kwargs: Mapping[str, Any], first: Env) -> None:
        self._source, self._kwargs, self._envs = source, env_kwargs, [first]

    def env(self, number: int) -> Env:
        """Return one of the environments that were made."""
        return self._envs[number]

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Any]:
        """Return the first observations, see :class:`Lockstep`."""
        while len(self._envs) <= max(seeds):
            self._envs.append(make(self._source, self._kwargs, draw=False))
        return {i: self._envs[i].reset(seed=seed)[0] for i, seed in seeds.items()}

    def step(self, actions: Mapping[int, Any]) -> dict[int, Step]:
        """Return what a step gave, see :class:`Lockstep`."""
        found = {}
        for i, action in actions.items():
            observation, reward, terminated, truncated, info = self._envs[i].step(action)
            reported = info.get("is_success", info.get("success"))
            found[i] = Step(
                observation,
                single(reward, self._envs[i]),
                bool(terminated),
                bool(truncated),
                None if reported is None else bool(reported),
            )
        return found

    def close(self) -> None:
        """Close the environments that were made."""
        for env in self._envs:
            env.close()


class Many:
    """A vector environment whose ended episodes wait until they are reset.

    All its environments are stepped every time. One without an episode of its own plays
    episodes that are discarded.

    Args:
        env: The vector environment; ``metadata["autoreset_mode"]`` is disabled.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self._env = env
        self._over = np.ones(env.num_envs, np.bool_)
        space = env.single_action_space
        self._rest = np.zeros((env.num_envs, *(space.shape or ())), space.dtype)

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Any]:
        """Return the first observations, see :class:`Lockstep`."""
        chosen = np.isin(np.arange(self._env.num_envs), list(seeds))
        numbers: Any = [seeds.get(i, 0) for i in range(self._env.num_envs)]
        observation, _ = self._env.reset(seed=numbers, options={"reset_mask": chosen})
        self._over &= ~chosen
        return {i: _row(observation, i) for i in seeds}

    def step(self, actions: Mapping[int, Any]) -> dict[int, Step]:
        """Return what a step gave, see :class:`Lockstep`."""
        if self._over.any():
            self.reset({int(i): 0 for i in np.flatnonzero(self._over)})
        taken = self._rest.copy()
        for i, action in actions.items():
            taken[i] = action
        observation, reward, terminated, truncated, info = self._env.step(taken)
        self._over = np.asarray(terminated | truncated, np.bool_)
        return {
            i: Step(
                _row(observation, i),
                single(reward[i], self._env),
                bool(terminated[i]),
                bool(truncated[i]),
                _told(info, i),
            )
            for i in actions
        }

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _told(info: Mapping[str, Any], number: int) -> bool | None:
    """Return what a vector environment says of success in one of its environments."""
    for name in ("is_success", "success"):
        there: NDArray[np.bool_] | None = info.get(f"_{name}")
        if name in info and (there is None or there[number]):
            return bool(info[name][number])
    return None


def _row(observation: Any, number: int) -> Any:
    """Return the observation of one environment."""
    if isinstance(observation, dict):
        return {name: _row(part, number) for name, part in observation.items()}
    return observation[number]


def open_envs(source: EnvSource, env_kwargs: Mapping[str, Any], first: Env, count: int) -> Lockstep:
    """Return environments to be stepped together.

    Args:
        source: Gymnasium id, or a function that makes an environment.
        env_kwargs: Passed to ``gymnasium.make``.
        first: One of them, made already, which is used or closed.
        count: How many at most.

    Returns:
        The environments, not yet reset.
    """
    plain = isinstance(first.action_space, spaces.Box | spaces.Discrete)
    # Many at once share their numbers, and have no trials.
    plain = plain and not {RANDOMISE, TRIAL} & set(env_kwargs)
    if isinstance(source, str) and plain and getattr(first.spec, "vector_entry_point", None):
        many = _vector(source, env_kwargs, count)
        if many is not None:
            first.close()
            return Many(many)
    return Singles(source, env_kwargs, first)


def _vector(
    source: str, env_kwargs: Mapping[str, Any], count: int
) -> VectorEnv[Any, Any, Any] | None:
    """Return the vector environment, ``None`` if it starts episodes when it likes."""
    try:
        env = gymnasium.make_vec(
            source,
            num_envs=count,
            vectorization_mode="vector_entry_point",
            autoreset_mode=AutoresetMode.DISABLED,
            **env_kwargs,
        )
    except (TypeError, gymnasium.error.Error):
        return None
    if env.metadata.get("autoreset_mode") is AutoresetMode.DISABLED:
        return env
    env.close()
    return None
