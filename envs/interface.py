"""Between an environment and a policy: what is observed, what is asked for, whether they fit.

How an observation reaches the policy:

- ``Box``: as it is, as float32;
- ``Dict`` with ``observation`` and ``desired_goal`` (a goal environment): ``observation`` is the
  policy's observation and ``desired_goal`` its task; ``achieved_goal`` is not shown;
- any other ``Dict`` of boxes: flattened and joined in the alphabetical order of the keys, whatever
  order the environment lists them in, as the readers of logs do.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Env = gymnasium.Env[Any, Any]
EnvSource = str | Callable[[], Env]
"""A Gymnasium id (``module:Id-v0`` imports a module first), or a function that makes one."""


class RolloutError(ValueError):
    """An environment that cannot be made, or that does not fit the policy."""


class Seen(NamedTuple):
    """What a policy sees of one observation: ``[O]`` and, in a goal environment, ``[Z]``."""

    observation: NDArray[np.float32]
    task: NDArray[np.float32] | None


class Interface:
    """The observation and action spaces of an environment, as a policy meets them.

    Args:
        env: The environment.
        name: Its name, for messages.

    Raises:
        RolloutError: A space is of a kind no policy can serve.
    """

    def __init__(self, env: Env, name: str) -> None:
        space: Any = env.observation_space
        goal = isinstance(space, spaces.Dict) and {"observation", "desired_goal"} <= set(space)
        self._space = space["observation"] if goal else space
        self._task_space: spaces.Space[Any] | None = space["desired_goal"] if goal else None
        self.name = name
        self.observation_shape = _shape(self._space, name)
        self.task_shape = None if self._task_space is None else _shape(self._task_space, name)
        self._action_space = env.action_space
        if not isinstance(env.action_space, spaces.Box | spaces.Discrete):
            raise RolloutError(
                f"{name}: its actions are {env.action_space}, and a policy gives real numbers "
                "(Box) or one choice (Discrete). Wrap the environment."
            )
        self.discrete = isinstance(env.action_space, spaces.Discrete)
        self.action_shape = tuple(env.action_space.shape or ())

    def see(self, observation: Any) -> Seen:
        """Return what the policy sees of an observation, in arrays of its own.

        An environment may hand out the same buffer at every step, hence the copies.
        """
        if self._task_space is None:
            return Seen(_flat(self._space, observation), None)
        task = _flat(self._task_space, observation["desired_goal"])
        return Seen(_flat(self._space, observation["observation"]), task)

    def action(self, action: Any) -> Any:
        """Return one answer of a policy as the environment takes it."""
        return int(action) if self.discrete else np.asarray(action, dtype=self._action_space.dtype)

    def check_fit(self, spec: Mapping[str, Any]) -> None:
        """Check a policy against this environment.

        Args:
            spec: The policy's ``spec`` or contract.

        Raises:
            RolloutError: They do not fit.
        """
        here, there = list(self.observation_shape), list(spec["observation"]["shape"])
        if here != there:
            raise RolloutError(
                f"{self.name}: observes {here}, and the policy takes {there}. It was fitted to "
                "another environment, or to observations changed by a wrapper."
            )
        self._check_task(spec.get("task"))
        self._check_action(spec["action"])

    def _check_task(self, task: Mapping[str, Any] | None) -> None:
        if self.task_shape is None:
            return
        here = list(self.task_shape)
        there = "no task" if task is None else f"a task of shape {list(task['shape'])}"
        if task is None or list(task["shape"]) != here:
            raise RolloutError(
                f"{self.name}: gives a goal of shape {here}, and the policy takes {there}. "
                "Fit one whose task is the goal."
            )

    def _check_action(self, action: Mapping[str, Any]) -> None:
        here = f"real numbers {list(self.action_shape)}"
        if isinstance(self._action_space, spaces.Discrete):
            here = f"one of {self._action_space.n} choices"
        there = f"real numbers {list(action['shape'])}"
        if action["kind"] == "discrete":
            there = f"one of {action['n']} choices"
            # A log need not show every choice there is.
            if self.discrete and action["n"] <= self._action_space.n:  # type: ignore[attr-defined]
                return
        if here != there:
            raise RolloutError(f"{self.name}: takes {here}, and the policy gives {there}")


def make(source: EnvSource, env_kwargs: Mapping[str, Any] | None = None, *, draw: bool) -> Env:
    """Return a new environment.

    Args:
        source: Gymnasium id, or a function that makes one.
        env_kwargs: Passed to ``gymnasium.make``.
        draw: Whether its frames are wanted.

    Returns:
        The environment, not yet reset.

    Raises:
        RolloutError: It cannot be made; the message says what to install or to write.
    """
    if not isinstance(source, str):
        return source()
    kwargs = dict(env_kwargs or {}) | ({"render_mode": "rgb_array"} if draw else {})
    try:
        return gymnasium.make(source, disable_env_checker=True, **kwargs)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise RolloutError(
            f"{source}: a package it needs is missing ({error}). For MuJoCo and robot "
            'environments: pip install "hindsight-rl[mujoco]".'
        ) from error
    except gymnasium.error.Error as error:
        raise RolloutError(
            f"{source}: no such environment ({str(error).rstrip('.')}). If a package other than "
            "Gymnasium brings it, name that package: 'gymnasium_robotics:FetchReach-v4'."
        ) from error
    except TypeError as error:
        raise RolloutError(f"{source}: refuses its arguments {kwargs} ({error})") from error


def frame(env: Env, name: str) -> NDArray[np.uint8]:
    """Return what an environment looks like now.

    Args:
        env: The environment, made to be drawn.
        name: Its name, for messages.

    Returns:
        ``[H, W, 3]`` uint8, red, green and blue.

    Raises:
        RolloutError: It cannot be drawn.
    """
    try:
        drawn = env.render()
    except (ImportError, gymnasium.error.Error) as error:
        raise RolloutError(f"{name}: cannot be drawn ({error})") from error
    if not isinstance(drawn, np.ndarray) or drawn.ndim != 3:
        raise RolloutError(f"{name}: gives no 'rgb_array' frames, so it cannot be drawn")
    return drawn


def _shape(space: spaces.Space[Any], name: str) -> tuple[int, ...]:
    """Return the shape of what a policy sees of a space."""
    if isinstance(space, spaces.Box):
        return space.shape
    if isinstance(space, spaces.Dict):
        return (sum(int(np.prod(_shape(part, name))) for part in space.values()),)
    raise RolloutError(
        f"{name}: observes {space}, and a policy sees real numbers (Box, or a Dict of them). "
        "Wrap the environment, for instance in gymnasium.wrappers.FlattenObservation."
    )


def _flat(space: spaces.Space[Any], observation: Any) -> NDArray[np.float32]:
    """Return what a policy sees of an observation."""
    if isinstance(space, spaces.Dict):
        names = sorted(space.spaces)
        return np.concatenate([_flat(space[name], observation[name]).ravel() for name in names])
    return np.array(observation, dtype=np.float32)
