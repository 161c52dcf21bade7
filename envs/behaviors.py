"""Scripted behaviour of mixed quality, for logs whose good part is small and known.

``CartPole-v1`` is built so that copying everything is not enough. Good episodes park the cart one
metre to the left of where every episode starts; clumsy ones start in the same place, outnumber the
good ones there, and fall. A clone of the whole log does what most rows do near the start; a clone
of the best episodes, or one weighted by advantage, parks and stays up for 500 steps.

In the worlds of this package where one walks the only behaviour is aimless: it wanders. The point
mass is also pushed as the task of the episode asks. The point mazes of Gymnasium-Robotics have a
controller that goes straight to the goal, and others that shake, go somewhere else first, or
wander.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.envs.actions import ActionSpace
from hindsight_rl.envs.playing import Limit, Playing
from hindsight_rl.envs.pursuit import pursuing
from hindsight_rl.envs.recording import Keeping, Recording, record_episode
from hindsight_rl.envs.waypoints import waypoints
from hindsight_rl.propensities import clipped_normal

Act = Callable[[Any], Any]
Start = Callable[[np.random.Generator], Act]
Array = NDArray[Any]

_UPRIGHT_ENERGY = 15.0
"""Pendulum-v1: 3 g / (2 l), energy at rest upright, per moment of inertia, in 1/s^2."""
_ROOMS = tuple(f"Hindsight/{name}-v0" for name in ("FourRooms", "FourCorners", "FourMargins"))


@dataclass(frozen=True)
class Behavior:
    """One way to behave.

    Args:
        name: Its name, stored with each episode.
        good: Whether it does the task.
        share: How many episodes it gets, relative to the others that are as good.
        start: Draws the parameters of one episode and returns ``observation -> action``.
        stated: Whether that returns actions as :class:`Said`, with their probability.
    """

    name: str
    good: bool
    share: float
    start: Start
    stated: bool = False


class Said(NamedTuple):
    """An action, and how likely it was given the parameters of the episode.

    Ratios to another policy have the mean 1 for each of these parameters, and so for all of them.
    """

    action: Any
    log_prob: float
    """Nats; in the environment's units, at a bound to which it is clipped a mass."""


def behaviors_for(env: gymnasium.Env[Any, Any]) -> tuple[Behavior, ...]:
    """Return the scripted behaviours of an environment: the last, or the only one, is aimless."""
    name = env.spec.id if env.spec is not None else ""
    if name in _ROOMS:
        return (Behavior("wander", False, 1.0, partial(_walk, _box(env.action_space))),)
    if name == "Hindsight/PointMass-v0":
        wander = partial(_push, _box(env.action_space))
        return (
            Behavior("pursue", True, 1.0, _pursue, stated=True),
            Behavior("wander", False, 1.0, wander),
        )
    if name.startswith("PointMaze_"):
        return _point_maze(env)
    scripted = {"CartPole-v1": _CARTPOLE, "Pendulum-v1": _PENDULUM}.get(name, ())
    return (*scripted, _uniform(env))


def schedule(
    behaviors: Sequence[Behavior], episodes: int, good: float, seed: int
) -> list[Behavior]:
    """Return the behaviour of each episode, good and clumsy ones shuffled.

    Args:
        behaviors: Behaviours to choose from.
        episodes: Number of episodes.
        good: Share of good episodes, in [0, 1], rounded down to whole episodes.
        seed: Seed of the order.

    Returns:
        One behaviour per episode; within good and clumsy ones the shares are kept as nearly as
        whole episodes allow.

    Raises:
        ValueError: A number is out of range, or no behaviour of this kind is known.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}, it must be at least 1")
    if not 0 <= good <= 1:
        raise ValueError(f"good is {good}, it must lie in [0, 1]")
    count = int(good * episodes)
    chosen: list[Behavior] = []
    for wanted, number in ((True, count), (False, episodes - count)):
        kind = [behavior for behavior in behaviors if behavior.good == wanted]
        if number and not kind:
            raise ValueError("no good behaviour is scripted for this environment: set good to 0")
        chosen += _divided(kind, number)
    order = np.random.default_rng([seed, 0]).permutation(episodes)
    return [chosen[i] for i in order]


def record(
    env: gymnasium.Env[Any, Any], behavior: Behavior, seed: Sequence[int], limit: int | Limit
) -> Recording:
    """Return one episode.

    Args:
        env: The environment.
        behavior: How to behave.
        seed: Numbers that seed this episode: start state and every draw follow from them.
        limit: Where an episode without end is cut, in steps.

    Returns:
        The episode, its actions as they were sent.
    """
    name = env.spec.id if env.spec is not None else "environment"
    generator = np.random.default_rng(list(seed))
    episode = Playing(0, int(generator.integers(2**31)))
    keeping = _Keeping(env, name, behavior, generator)
    ends = limit if isinstance(limit, Limit) else Limit(env, limit, "limit", name)
    return record_episode(env, episode, ends, keeping, keeping.choose, lambda action: action)


class _Keeping(Keeping):
    """Behaves, and keeps observations as they are given and actions as they are sent."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        name: str,
        behavior: Behavior,
        generator: np.random.Generator,
    ) -> None:
        super().__init__()
        self._behavior, self._generator = behavior, generator
        # Actions of other kinds are only ever sampled from their space.
        plain = isinstance(env.action_space, spaces.Box | spaces.Discrete)
        self._space = ActionSpace(env, name) if plain else None

    def begin(self, episode: Playing, observation: Any) -> None:
        """Draw how to behave."""
        self._act = self._behavior.start(self._generator)
        super().begin(episode, observation)

    def choose(self, playing: Sequence[Playing]) -> list[Any]:
        """Return the one action."""
        action = self._act(self.observations[-1])
        if isinstance(action, Said):
            playing[0].log_prob, action = action.log_prob, action.action
        if self._space is None:
            return [action]
        return [self._space.sent(self._space.executed(np.asarray(action)[None])[0])]


def _divided(behaviors: Sequence[Behavior], number: int) -> list[Behavior]:
    """Return ``number`` behaviours in proportion to their shares."""
    if not number:
        return []
    ends = np.cumsum([behavior.share for behavior in behaviors])
    counts = np.diff(np.round(number * ends / ends[-1]).astype(int), prepend=0)
    return [
        behavior for behavior, count in zip(behaviors, counts, strict=True) for _ in range(count)
    ]


def _random(space: spaces.Space[Any], generator: np.random.Generator) -> Act:
    # A copy: the environment's own space keeps its own draws.
    own = copy.deepcopy(space)
    own.seed(int(generator.integers(2**31)))
    return lambda observation: own.sample()


def _uniform(env: gymnasium.Env[Any, Any]) -> Behavior:
    """Return random behaviour, which says how likely it is where it is uniform."""
    space, draw = env.action_space, partial(_random, env.action_space)
    if isinstance(space, spaces.Discrete):
        choice = -math.log(space.n)
        return Behavior("random", False, 1.0, partial(_saying, draw, choice), stated=True)
    if isinstance(space, spaces.Box) and space.is_bounded():
        width = space.high.astype(np.float64) - space.low + (space.dtype.kind in "iub")
        density = -float(np.log(np.where(width > 0, width, 1.0)).sum())
        return Behavior("random", False, 1.0, partial(_saying, draw, density), stated=True)
    return Behavior("random", False, 1.0, draw)


def _saying(start: Start, log_prob: float, generator: np.random.Generator) -> Act:
    """Return behaviour all of whose actions are as likely."""
    act = start(generator)
    return lambda observation: Said(act(observation), log_prob)


def _wander(draw: Callable[[Any], Array], hold: int, generator: np.random.Generator) -> Act:
    """Return actions that are held for some steps on average.

    Actions drawn afresh at every step undo one another and hardly leave a room.

    Args:
        draw: Draws an action.
        hold: Steps on average.
        generator: Draws when to turn.

    Returns:
        The behaviour; it looks at nothing.
    """
    held = draw(None)

    def act(observation: Any) -> Array:
        nonlocal held
        if generator.random() < 1 / hold:
            held = draw(observation)
        return np.array(held)

    return act


def _box(space: spaces.Space[Any]) -> spaces.Box:
    """Return the action space of a world where one walks, as what it is."""
    if not isinstance(space, spaces.Box):
        raise ValueError(f"actions are {space}: where one walks they are real numbers")
    return space


def _walk(space: spaces.Box, generator: np.random.Generator) -> Act:
    """Return velocities of any heading, as fast as the space allows, each held for 20 steps."""

    def draw(observation: Any) -> Array:
        heading = generator.standard_normal(space.shape)
        fastest: Array = (space.high * heading / np.abs(heading).max()).astype(space.dtype)
        return fastest

    return _wander(draw, 20, generator)


def _push(space: spaces.Box, generator: np.random.Generator) -> Act:
    """Return actions uniform over the space, each held for 10 steps."""
    return _wander(_random(space, generator), 10, generator)


def _pursue(generator: np.random.Generator) -> Act:
    """Return forces that earn what the task of the episode weighs."""
    act = pursuing(generator)
    return lambda observation: Said(*act(observation))


def _point_maze(env: gymnasium.Env[Any, Any]) -> tuple[Behavior, ...]:
    """Return the behaviours in a point maze; the time limit decides how many of them arrive."""
    maze = env.get_wrapper_attr("maze")
    return (
        Behavior("waypoints", True, 1, partial(waypoints, maze, 0.5, 0)),
        Behavior("shaky", False, 2, partial(waypoints, maze, 4.0, 0)),
        Behavior("detour", False, 3, partial(waypoints, maze, 0.5, 2)),
        Behavior("lost", False, 3, partial(waypoints, maze, 0.5, 8)),
        Behavior("wander", False, 2, partial(_push, _box(env.action_space))),
    )


def _cartpole(
    gains: tuple[float, float, float, tuple[float, float]],
    lean: tuple[float, float],
    generator: np.random.Generator,
) -> Act:
    """Return bang-bang control: push right where ``gains @ observation + lean > 0``.

    Args:
        gains: On position, velocity, angle, and the ends of the range of that on angular velocity.
        lean: Ends of the range of the constant: it tilts the pole, and the cart runs after it.
        generator: Draws gain, lean and slips of this episode.

    Returns:
        The control, which slips (pushes at random) in 5 to 20 % of the steps.
    """
    weights = np.array([*gains[:3], generator.uniform(*gains[3])])
    constant = generator.uniform(*lean)
    slip = generator.uniform(0.05, 0.2)

    def act(observation: Array) -> Said:
        meant = int(weights @ observation + constant > 0)
        done = int(generator.integers(2)) if generator.random() < slip else meant
        return Said(done, math.log(slip / 2 + (1.0 - slip) * (done == meant)))

    return act


def _pendulum(
    energy: float, gain: float, damping: float, noise: float, generator: np.random.Generator
) -> Act:
    """Return swing-up by energy, then a proportional-derivative hold.

    Args:
        energy: Energy to reach, as a multiple of that at rest upright.
        gain: Torque per rad near the top, in N m.
        damping: Torque per rad/s near the top, in N m s.
        noise: Standard deviation of the torque, in N m.
        generator: Draws the noise.

    Returns:
        The control; torques are clipped to [-2, 2] N m.
    """
    scale = generator.uniform(0.8, 1.2)

    def act(observation: Array) -> Said:
        cosine, sine, speed = (float(number) for number in observation)
        if cosine > 0.9:
            torque = -gain * np.arctan2(sine, cosine) - damping * speed
        else:
            lacking = energy * _UPRIGHT_ENERGY - (0.5 * speed**2 + _UPRIGHT_ENERGY * cosine)
            # At rest at the bottom the direction is free, and 0 would never leave it.
            torque = lacking * (1.0 if speed >= 0 else -1.0)
        mean = scale * torque
        torque = np.array([np.clip(mean + generator.normal(0.0, noise), -2.0, 2.0)], np.float32)
        return Said(torque, clipped_normal(float(torque[0]), mean, noise, -2.0, 2.0))

    return act


_CARTPOLE = (
    # 0.5 * (position + 1): parks at -1 m.
    Behavior(
        "park", True, 1, partial(_cartpole, (0.5, 0.9, 10.0, (2.0, 2.0)), (0.5, 0.5)), stated=True
    ),
    # Too little damping: the pole swings wider and wider and falls, after 20 to 200 steps.
    Behavior(
        "wobble",
        False,
        8,
        partial(_cartpole, (0.0, 0.0, 10.0, (-0.05, 0.15)), (0.0, 0.0)),
        stated=True,
    ),
    # Keeps the pole tilted to the right: the cart runs off that end after 110 to 170 steps.
    Behavior(
        "drift",
        False,
        1,
        partial(_cartpole, (0.0, 0.0, 10.0, (2.0, 2.0)), (-1.2, -0.6)),
        stated=True,
    ),
)
_PENDULUM = (
    Behavior("swing up", True, 1, partial(_pendulum, 1.0, 10.0, 2.0, 0.2), stated=True),
    Behavior("too little energy", False, 4, partial(_pendulum, 0.4, 10.0, 2.0, 0.5), stated=True),
    Behavior("too much energy", False, 3, partial(_pendulum, 2.0, 3.0, 0.2, 0.5), stated=True),
    Behavior("noisy hold", False, 2, partial(_pendulum, 1.0, 4.0, 0.3, 1.5), stated=True),
)
