"""Whole episodes of a policy, as columns of a log.

Environments are stepped in lockstep, so that the policy is asked for many at once. What an episode
is depends on (seed, number of the episode) and the policy alone: the environment is reset with a
seed of its own, and every draw of the policy is counted by episode and step.
"""

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.sources.correcting import Correcting, expert_of
from hindsight_rl.datamodules.sources.deciding import Deciding, Policy, Random
from hindsight_rl.datamodules.sources.episodes import (
    Collected,
    Command,
    Episode,
    Recording,
    collected,
    lost_in_float32,
)
from hindsight_rl.envs.interface import Env, EnvSource, Interface, RolloutError, make
from hindsight_rl.envs.lockstep import Lockstep, Singles, open_envs
from hindsight_rl.envs.playing import Asking, Limit, Playing, play
from hindsight_rl.envs.randomised import RANDOMISE, drawn_context
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    ACTION_LOG_PROB,
    BY_EXPERT,
    CONTEXT,
    EXPERT_ACTION,
    NEXT_ACHIEVED,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.logs.action_bounds import stated
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import fork_key, seed_key
from hindsight_rl.ports import Actor
from hindsight_rl.propensities import AtOnce
from hindsight_rl.relabel.experts import Lasting


class Collector:
    """Plays episodes in environments that stay open between calls.

    Args:
        env: Gymnasium id, or a function that makes an environment.
        env_kwargs: Passed to ``gymnasium.make``.
        seed: Seed of the whole, not negative; episode i is reset with ``episode_seed(seed, i)``.
        num_envs: Environments in lockstep, at least 1.
        max_episode_steps: Steps after which an episode is cut (truncated); ``None``: the
            environment's own limit, and 10,000 steps, with a warning, where it has none.
        explore: Share of actions drawn uniformly from the action space instead, in [0, 1].
        command: Gives tasks where the environment does not.
        expert: Who is asked what to do in every state; ``None`` for nobody, and no labels.
        stuck: Steps and a radius, see :class:`hindsight_rl.datamodules.collection.Collection`.

    Raises:
        RolloutError: The environment cannot be made, or no log can be made of what it shows.
        ValueError: A number is out of range.

    Attributes:
        name: The environment, for messages.
        interface: What of it a policy meets.
        task_shape: Shape of the tasks the policy is given, ``None`` if it is given none.
        info: Facts for a log of its episodes: source, names, action bounds, control rate.
        stating: Whether episodes have the column ``action_log_prob``, False at first; set it only
            where :meth:`unstated` has no reason against it.
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
        expert: Expert | None = None,
        stuck: tuple[int, float] | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}: it may not be negative")
        for name, value in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, it must be at least 1")
        if not 0 <= explore <= 1:
            raise ValueError(f"explore is {explore}, it must lie in [0, 1]")
        self._env, self._kwargs, self._seed = env, dict(env_kwargs or {}), seed
        self._num_envs, self._ranges = num_envs, self._kwargs.get(RANDOMISE)
        self._explore, self._command = explore, command
        self.name = env if isinstance(env, str) else getattr(env, "__name__", "environment")
        self._key = fork_key(seed_key(seed), "collect")
        self._envs: Lockstep | None = None
        self._collected = self._warned = self.stating = False
        first = make(env, self._kwargs, draw=False)
        self.interface = Interface(first, self.name, images=True)
        _check_space(self.interface)
        self._limit = Limit(first, max_episode_steps, "max_episode_steps", self.name)
        self._random = Random(self.interface.actions, self.name, self._key)
        self.info = _facts(first, self.interface)
        self.expert, self._stuck = expert, stuck
        self._asked = None if expert is None else expert_of(expert, first, self.interface)
        if stuck is not None and self.interface.entries:
            raise RolloutError(
                f"{self.name}: shows entries by name, and max_stuck looks at one row of numbers: "
                "leave it out"
            )
        self._envs = self._open(first)
        self.task_shape = _task_shape(self.interface, command)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Keys of the columns of its episodes, in their order; not of entries by name."""
        always = OBSERVATION, NEXT_OBSERVATION, ACTION, REWARD, TERMINATED, TRUNCATED
        task = () if self.task_shape is None else (TASK,)
        achieved = (ACHIEVED, NEXT_ACHIEVED) if self.interface.achieves else ()
        expert = () if self.expert is None else (EXPERT_ACTION, BY_EXPERT)
        stated = (ACTION_LOG_PROB,) if self.stating else ()
        return always + task + achieved + expert + stated + ((CONTEXT,) if self._ranges else ())

    def close(self) -> None:
        """Close the environments; the next call of :meth:`collect` makes new ones."""
        if self._envs is not None:
            self._envs.close()
        self._envs = None

    def unstated(self, policy: Policy | None) -> str:
        """Return why it is not known how likely a policy's executed actions are.

        Args:
            policy: The policy, ``None`` for uniformly random actions.

        Returns:
            The end of a sentence; "" where it is known.
        """
        if self.expert is not None:
            return "an expert acts in its place"
        return self._deciding(policy).unstated()

    def _deciding(self, policy: Policy | None) -> Deciding:
        return Deciding(policy, self._random, self._explore, self.interface)

    def _opened(self) -> Lockstep:
        if self._envs is None:
            first = make(self._env, self._kwargs, draw=False)
            self._envs = self._open(first)
        return self._envs

    def _open(self, first: Env) -> Lockstep:
        """Return the environments; single ones where an expert looks into each."""
        if self._asked is not None and not isinstance(self._asked, Actor):
            return Singles(self._env, self._kwargs, first)
        return open_envs(self._env, self._kwargs, first, self._num_envs)

    def state_dict(self) -> dict[str, Any]:
        """Return what the expert keeps from round to round; empty unless it says so."""
        asked: object = self._asked
        return asked.state_dict() if isinstance(asked, Lasting) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the expert what :meth:`state_dict` returned."""
        asked: object = self._asked
        if isinstance(asked, Lasting):
            asked.load_state_dict(state)

    def collected_apart(self, state: Mapping[str, Any]) -> None:
        """Note that a copy of this collected: what its expert keeps is this one's now.

        Args:
            state: The copy's :meth:`state_dict`.
        """
        self._collected = True
        self.load_state_dict(state)

    def _correcting(self, number: int, queries: int, envs: Lockstep) -> Correcting | None:
        """Return the expert's part in a round, ``None`` where there is none."""
        given = self.expert
        if given is None:
            return None
        left = None if given.max_queries is None else given.max_queries - queries
        share = given.beta.share(number)
        return Correcting(
            self._asked,
            given,
            share,
            self.interface,
            self._key,
            left,
            lambda i: _env(envs, i),
            self._ranges,
        )

    def collect(
        self,
        policy: Policy | None,
        first: int,
        count: int,
        log: Log | None = None,
        *,
        number: int = 0,
        queries: int = 0,
        steps: int | None = None,
    ) -> Collected:
        """Return whole episodes.

        Args:
            policy: The policy, ``None`` for uniformly random actions.
            first: Number of the first episode.
            count: How many.
            log: What was collected before, for ``command``; ``None`` for nothing.
            number: Of the round, from 0, for the expert's share.
            queries: How often the expert was asked before.
            steps: In the place of ``count``: no further episode begins once so many steps were
                taken. Those that have begun are played to their end, or short ones would be
                preferred.

        Returns:
            The episodes.

        Raises:
            RolloutError: The environment gives numbers that are not finite; or, in the first
                episodes collected, numbers that float32 makes equal.
            ValueError: The policy's actions have another shape, are not finite, or are none of the
                choices.
        """
        recording = Recording(self.interface, self._command, self._key, log, self._stuck)
        envs = self._opened()
        correcting = self._correcting(number, queries, envs)
        actor = self._deciding(policy)
        later = AtOnce(self.interface.actions.low, self.interface.actions.high)
        choose = Asking(
            actor,
            self.interface,
            self._key,
            stating=self.stating,
            later=later,
            correct=correcting,
        )
        numbers: Iterable[int] = range(first, first + count)
        if steps is not None:
            endless = itertools.count(first)
            numbers = itertools.takewhile(lambda _: recording.steps < steps, endless)
        play(
            envs,
            (Playing(each, episode_seed(self._seed, each)) for each in numbers),
            self._num_envs if steps is not None else min(count, self._num_envs),
            self._limit,
            choose=choose,
            send=self.interface.actions.sent,
            watcher=recording,
        )
        done = [recording.kept[each] for each in sorted(recording.kept)]
        found = collected(done, later.found())
        if correcting is not None:
            found = found._replace(queries=correcting.asked)
        if self._ranges:
            seeds = [episode_seed(self._seed, each) for each in sorted(recording.kept)]
            context = np.stack([drawn_context(self._ranges, seed) for seed in seeds])
            found.columns[CONTEXT] = torch.from_numpy(context).repeat_interleave(found.lengths, 0)
        self._check_precision(done)
        return found

    def _check_precision(self, done: Sequence[Episode]) -> None:
        """Raise where float32 makes numbers equal; once training goes on, warn instead, once."""
        lost = None if self._warned else lost_in_float32(done)
        if lost is not None and not self._collected:
            raise RolloutError(lost)
        if lost is not None:
            warnings.warn(lost, stacklevel=3)
            self._warned = True
        self._collected = True


def _task_shape(interface: Interface, command: Command | None) -> tuple[int, ...] | None:
    """Return the shape of the tasks that a policy is given, ``None`` for none."""
    if command is None:
        return interface.task_shape
    shows = interface.task_shape is not None
    if shows and not getattr(command, "in_place_of_goals", False):
        raise RolloutError(
            f"{interface.name}: gives tasks of its own, so leave out command, or give one that "
            "takes their place (RareGoal, OneOf with in_place_of_goals)"
        )
    if shows and not len(command.initial):
        return interface.task_shape
    if not shows and not len(command.initial):
        raise RolloutError(
            f"{interface.name}: shows no goals, and {type(command).__name__} commands places that "
            "were reached: give a goal environment, or another command"
        )
    return np.shape(command.initial)


def _env(envs: Lockstep, number: int) -> Env:
    """Return the environment of a slot."""
    if not isinstance(envs, Singles):
        raise RuntimeError("only single environments are looked into")
    return envs.env(number)


def _check_space(interface: Interface) -> None:
    """Raise where observations are neither numbers in a row nor entries by name."""
    if not interface.entries and len(interface.observation_shape) != 1:
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
    facts |= {"entries": list(interface.entries)} if interface.entries else {}
    space = interface.actions
    if not space.discrete:
        bounds = {"low": stated(space.low.tolist()), "high": stated(space.high.tolist())}
        return facts | {"action": bounds}
    facts |= {"discrete_actions": space.n}
    return facts | ({"action_start": space.start} if space.start else {})
