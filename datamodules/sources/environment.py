"""Whole episodes of a policy, as columns of a log.

Environments are stepped in lockstep, so that the policy is asked for many at once. What an episode
is depends on (seed, number of the episode) and the policy alone: the environment is reset with a
seed of its own, and every draw of the policy is counted by episode and step.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.datamodules.sources.episodes import (
    ACHIEVED,
    NEXT_ACHIEVED,
    TASK,
    Collected,
    Episode,
    collected,
)
from hindsight_rl.envs.interface import Env, EnvSource, Interface, RolloutError, make
from hindsight_rl.envs.lockstep import Lockstep, open_envs
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.logs.action_bounds import stated
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import (
    ACTION,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.maths.draws import fork, fork_key, seed_key, uniform

Policy = Callable[[NDArray[np.float32], NDArray[np.float32] | None, Tensor], NDArray[Any]]
"""``policy(observation [n, O], task [n, Z] or None, draws [n, 3]) -> action [n, ...]``."""


class Command(Protocol):
    """What the policy is asked for where the environment gives no task: a return, a horizon.

    Attributes:
        initial: Z numbers, the task of the first episodes, which are played at random.
    """

    initial: Sequence[float]

    def start(self, log: Log, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, Z]``.
        """

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks after one more step.

        Args:
            task: ``[n, Z]``.
            reward: ``[n]``, what the step earned.

        Returns:
            ``[n, Z]``.
        """


class Collector:
    """Plays episodes in environments that stay open between calls.

    Args:
        env: Gymnasium id, or a function that makes an environment.
        env_kwargs: Passed to ``gymnasium.make``.
        seed: Seed of the whole, not negative; episode i is reset with ``episode_seed(seed, i)``.
        num_envs: Environments in lockstep, at least 1.
        max_episode_steps: Steps after which an episode is cut (truncated), ``None`` for the
            environment's own limit.
        explore: Share of actions drawn uniformly from the action space instead, in [0, 1].
        command: Gives tasks where the environment does not.

    Raises:
        RolloutError: The environment cannot be made, or no log can be made of what it shows.
        ValueError: A number is out of range.

    Attributes:
        name: The environment, for messages.
        interface: What of it a policy meets.
        task_shape: Shape of the tasks the policy is given, ``None`` if it is given none.
        info: Facts for a log of its episodes: source, names, action bounds, control rate.
    """

    def __init__(
        self,
        env: EnvSource,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        num_envs: int = 8,
        max_episode_steps: int | None = None,
        explore: float = 0.0,
        command: Command | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}: it may not be negative")
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        if not 0 <= explore <= 1:
            raise ValueError(f"explore is {explore}, it must lie in [0, 1]")
        self._env, self._kwargs, self._seed = env, dict(env_kwargs or {}), seed
        self._num_envs, self._limit = num_envs, max_episode_steps
        self._explore, self._command = explore, command
        self.name = env if isinstance(env, str) else getattr(env, "__name__", "environment")
        self._key = fork_key(seed_key(seed), "collect")
        self._envs: Lockstep | None = None
        first = make(env, self._kwargs, draw=False)
        self.interface = Interface(first, self.name)
        _check_space(self.interface)
        self._achieves = self.interface.achieves
        self._random = _Random(first.action_space, self.name, self._key)
        self.info = _facts(first, self.interface)
        self._envs = open_envs(env, self._kwargs, first, num_envs)
        if command is not None and self.interface.task_shape is not None:
            raise RolloutError(f"{self.name}: gives tasks of its own, so leave out command")
        self.task_shape = self.interface.task_shape
        if command is not None:
            self.task_shape = np.shape(command.initial)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Keys of the columns of its episodes, in their order."""
        always = OBSERVATION, NEXT_OBSERVATION, ACTION, REWARD, TERMINATED, TRUNCATED
        task = () if self.task_shape is None else (TASK,)
        return always + task + ((ACHIEVED, NEXT_ACHIEVED) if self._achieves else ())

    def close(self) -> None:
        """Close the environments; the next call of :meth:`collect` makes new ones."""
        if self._envs is not None:
            self._envs.close()
        self._envs = None

    def _opened(self) -> Lockstep:
        if self._envs is None:
            first = make(self._env, self._kwargs, draw=False)
            self._envs = open_envs(self._env, self._kwargs, first, self._num_envs)
        return self._envs

    def collect(self, policy: Policy | None, first: int, count: int, log: Log | None) -> Collected:
        """Return whole episodes.

        Args:
            policy: The policy, ``None`` for uniformly random actions.
            first: Number of the first episode.
            count: How many.
            log: What was collected before, for ``command``; ``None`` for nothing.

        Returns:
            The episodes.

        Raises:
            RolloutError: An episode does not end, or the environment gives numbers that are not
                finite.
            ValueError: The policy's actions have another shape, or are not finite.
        """
        envs, waiting = self._opened(), deque(range(first, first + count))
        done: list[Episode] = []
        slots = range(min(count, self._num_envs))
        playing = self._start(envs, {slot: waiting.popleft() for slot in slots}, log)
        while playing:
            actions = self._act(policy, list(playing.values()))
            taken = {i: self.interface.action(a) for i, a in zip(playing, actions, strict=True)}
            for slot, step in envs.step(taken).items():
                self._see(playing[slot], step.observation)
                playing[slot].add(step, self._limit)
            for episode, action in zip(playing.values(), actions, strict=True):
                episode.actions.append(action)
            self._follow(list(playing.values()))
            over = [slot for slot, episode in playing.items() if episode.over]
            done += [playing.pop(slot) for slot in over]
            following = {slot: waiting.popleft() for slot in over[: len(waiting)]}
            playing |= self._start(envs, following, log)
        return collected(sorted(done, key=lambda episode: episode.number))

    def _start(
        self, envs: Lockstep, numbers: Mapping[int, int], log: Log | None
    ) -> dict[int, Episode]:
        """Return new episodes by environment, each with its first observation and task."""
        if not numbers:
            return {}
        episodes = {
            slot: Episode(number, episode_seed(self._seed, number), self.name)
            for slot, number in numbers.items()
        }
        begun = envs.reset({slot: episode.seed for slot, episode in episodes.items()})
        for slot, episode in episodes.items():
            self._see(episode, begun[slot])
            if self._command is not None:
                episode.tasks.append(self._commanded(episode.number, log))
        return episodes

    def _commanded(self, number: int, log: Log | None) -> NDArray[np.float32]:
        """Return the task ``[Z]`` an episode begins with."""
        if self._command is None or log is None:
            return np.asarray(getattr(self._command, "initial", ()), np.float32)
        draws = torch.tensor([[fork_key(self._key, "command"), number, 0]])
        return self._command.start(log, draws)[0].numpy().astype(np.float32)

    def _see(self, episode: Episode, observation: Any) -> None:
        """Note what is observed."""
        seen = self.interface.see(observation)
        episode.observations.append(seen.observation)
        if seen.task is not None:
            episode.tasks.append(seen.task)
        if self._achieves:
            episode.achieved.append(self.interface.achieved(observation))

    def _follow(self, playing: Sequence[Episode]) -> None:
        """Have the command change the tasks after a step."""
        if self._command is None:
            return
        task = torch.from_numpy(np.stack([episode.tasks[-1] for episode in playing]))
        reward = torch.tensor([episode.rewards[-1] for episode in playing], dtype=torch.float32)
        for episode, changed in zip(playing, self._command.step(task, reward), strict=True):
            episode.tasks.append(changed.numpy().astype(np.float32))

    def _act(self, policy: Policy | None, playing: Sequence[Episode]) -> NDArray[Any]:
        """Return actions ``[n, ...]`` for the environments still playing."""
        draws = torch.tensor([[self._key, each.number, len(each.actions)] for each in playing])
        if policy is None:
            return self._random(draws)
        observation = np.stack([episode.observations[-1] for episode in playing])
        tasks = [episode.tasks[-1] for episode in playing if episode.tasks]
        actions = policy(observation, np.stack(tasks) if tasks else None, fork(draws, "policy"))
        expected = (len(playing), *self.interface.action_shape)
        if actions.shape != expected:
            raise ValueError(
                f"{self.name}: the policy answered with shape {list(actions.shape)}, and "
                f"{len(playing)} environments take {list(expected)}"
            )
        if not np.isfinite(actions).all():
            raise ValueError(f"{self.name}: the policy answered with numbers that are not finite")
        if self._explore:
            at_random = (uniform(fork(draws, "explore")) < self._explore).numpy()
            actions = np.where(
                at_random.reshape(-1, *[1] * (actions.ndim - 1)), self._random(draws), actions
            )
        return actions


class _Random:
    """Uniformly random actions, each a function of its counter."""

    def __init__(self, space: spaces.Space[Any], name: str, key: int) -> None:
        key = fork_key(key, "action")
        self._count = 0
        if isinstance(space, spaces.Discrete):
            self._count, self._keys = int(space.n), torch.tensor([fork_key(key, 0)])
            return
        if not isinstance(space, spaces.Box) or not np.isfinite([space.low, space.high]).all():
            raise RolloutError(
                f"{name}: its actions have no bounds ({space}), so none can be drawn uniformly. "
                "Wrap it in gymnasium.wrappers.RescaleAction or one that states bounds"
            )
        self._low, self._high = space.low.astype(np.float32), space.high.astype(np.float32)
        dimensions = range(int(np.prod(space.shape)))
        self._keys = torch.tensor([fork_key(key, number) for number in dimensions])

    def __call__(self, draws: Tensor) -> NDArray[Any]:
        """Return actions ``[n, ...]`` for counters ``[n, 3]``."""
        words = draws[:, None].repeat(1, len(self._keys), 1)
        words[..., 0] = self._keys
        share = uniform(words).numpy()
        if self._count:
            return (share[:, 0] * self._count).astype(np.int64)
        shape = self._low.shape
        found: NDArray[np.float32] = self._low + share.reshape(-1, *shape) * (
            self._high - self._low
        )
        return found


def _check_space(interface: Interface) -> None:
    """Refuse observations that no log of numbers in a row can hold."""
    if len(interface.observation_shape) != 1:
        raise RolloutError(
            f"{interface.name}: observes {list(interface.observation_shape)}, and numbers in a row "
            "are collected. Wrap it in gymnasium.wrappers.FlattenObservation"
        )


def _facts(env: Env, interface: Interface) -> dict[str, Any]:
    """Return the facts of a log: where it is from, names, action bounds, control rate."""
    rate = env.metadata.get("render_fps")
    facts: dict[str, Any] = {"source": interface.name}
    facts |= {"control_rate_hz": float(rate)} if rate else {}
    facts |= {"names": interface.names} if interface.names else {}
    space: Any = env.action_space
    if isinstance(space, spaces.Discrete):
        return facts | {"discrete_actions": int(space.n)}
    bounds = {"low": stated(space.low.tolist()), "high": stated(space.high.tolist())}
    return facts | {"action": bounds}
