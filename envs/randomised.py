"""Environments whose numbers are drawn anew in every episode: masses, lengths, friction.

    hindsight fit --config sac_online --data.env_kwargs '{randomise: {g: [8, 12]}}'

What an episode has is a function of its seed alone, and so the same in any process, for any number
of environments, and after a resume.

Reference: Peng et al. 2018, "Sim-to-real transfer of robotic control with dynamics randomization",
arXiv 1710.06537.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.envs.entry_spaces import RolloutError

Ranges = Mapping[str, Sequence[float]]
"""Least and largest value of each number, by where it lies: ``mass``, ``model.body_mass.1``."""

RANDOMISE = "randomise"
"""What names the ranges among the arguments of an environment."""

SHOW_CONTEXT = "show_context"
"""What says among them that the numbers drawn are observed."""

_STREAM = 0x636F6E74  # "cont": apart from what an environment draws itself from the seed


def drawn_context(ranges: Ranges, seed: int) -> NDArray[np.float32]:
    """Return the numbers of an episode, uniform in their ranges.

    Args:
        ranges: C ranges.
        seed: With which the episode is reset, not negative.

    Returns:
        ``[C]`` float32, in the order of the ranges.
    """
    words = np.random.SeedSequence([seed, _STREAM]).generate_state(max(1, len(ranges)))
    ends = np.array([list(pair) for pair in ranges.values()], np.float64).reshape(-1, 2)
    share = words[: len(ranges)].astype(np.float64) / 2.0**32
    return (ends[:, 0] + share * (ends[:, 1] - ends[:, 0])).astype(np.float32)


class Randomised(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment some of whose numbers are drawn at every reset.

    Args:
        env: Not yet reset.
        ranges: Least and largest value by attribute of the unwrapped environment; parts after a dot
            are attributes of attributes, or places in an array: ``model.body_mass.1``.

    Raises:
        ValueError: A range is none, or there is no such number.

    Attributes:
        ranges: As they were given.
        context: ``[C]`` float32, the numbers of the episode.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], ranges: Ranges) -> None:
        super().__init__(env)
        check_ranges(ranges)
        self.ranges, self._episode = dict(ranges), (0, 0)
        for name in self.ranges:
            _number(self.env.unwrapped, name)
        self.context = drawn_context(self.ranges, 0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation under new numbers.

        Args:
            seed: Of the episode; without one the numbers follow those of the episode before.
            options: Of the environment.

        Returns:
            Observation and info, with ``context``.
        """
        first, count = self._episode
        self._episode = (first, count + 1) if seed is None else (seed, 0)
        if seed is None:
            seed_of_numbers = int(np.random.SeedSequence(self._episode).generate_state(1)[0])
        else:
            seed_of_numbers = seed
        self.context = drawn_context(self.ranges, seed_of_numbers)
        for name, value in zip(self.ranges, self.context, strict=True):
            _set(self.env.unwrapped, name, float(value))
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"context": self.context}


class ShownContext(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An environment that shows the numbers of its episode behind what is observed.

    Args:
        env: A randomised one, which observes numbers in a row, or a dictionary in which
            ``observation`` is such.

    Raises:
        ValueError: It observes something else.
    """

    def __init__(self, env: Randomised) -> None:
        super().__init__(env)
        self._randomised = env
        space = env.observation_space
        named = isinstance(space, spaces.Dict) and "observation" in space.spaces
        plain = space["observation"] if isinstance(space, spaces.Dict) and named else space
        if not isinstance(plain, spaces.Box) or len(plain.shape) != 1:
            raise ValueError(
                f"show_context puts numbers behind those in a row, and it observes {space}: wrap "
                "it in gymnasium.wrappers.FlattenObservation, or leave it out"
            )
        low, high = np.array(list(env.ranges.values()), np.float32).T
        kind: Any = plain.dtype
        shown = spaces.Box(np.append(plain.low, low), np.append(plain.high, high), dtype=kind)
        self.observation_space = (
            spaces.Dict({**space.spaces, "observation": shown})
            if isinstance(space, spaces.Dict)
            else shown
        )

    def observation(self, observation: Any) -> Any:
        """Return an observation with the numbers of the episode behind it."""
        if isinstance(observation, dict):
            return observation | {"observation": self.observation(observation["observation"])}
        context = self._randomised.context.astype(observation.dtype)
        return np.append(observation, context)


def randomised(
    env: gymnasium.Env[Any, Any], given: Mapping[str, Any], source: object
) -> gymnasium.Env[Any, Any]:
    """Return an environment some of whose numbers are drawn at every reset.

    Args:
        env: Not yet reset; it is closed where it cannot be.
        given: ``randomise``, the ranges, and ``show_context``, whether the numbers are observed;
            without either the environment stays as it is.
        source: What made it, for messages.

    Returns:
        The environment.

    Raises:
        RolloutError: A range is none, there is no such number, or it cannot be shown.
    """
    ranges, shown = given.get(RANDOMISE), bool(given.get(SHOW_CONTEXT))
    if ranges is None and not shown:
        return env
    try:
        if ranges is None:
            raise ValueError("show_context shows what is drawn: give randomise too")
        drawn = Randomised(env, ranges)
        return ShownContext(drawn) if shown else drawn
    except ValueError as error:
        env.close()
        name = source if isinstance(source, str) else getattr(source, "__name__", "environment")
        raise RolloutError(f"{name}: {error}") from error


def context_of(env: gymnasium.Env[Any, Any]) -> NDArray[np.float32] | None:
    """Return what the episode drew that an environment is in.

    Args:
        env: As :func:`hindsight_rl.envs.interface.make` made it.

    Returns:
        ``[C]`` float32, ``None`` where nothing is drawn.
    """
    drawn = env.env if isinstance(env, ShownContext) else env
    return drawn.context if isinstance(drawn, Randomised) else None


def check_ranges(ranges: Ranges) -> None:
    """Raise on what are no ranges.

    Args:
        ranges: Two finite numbers by name, the smaller first; equal ones fix the number.

    Raises:
        ValueError: One is not so, or there is none.
    """
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(
            f"randomise is {ranges!r}: give numbers with their ranges, {{mass: [0.8, 1.2]}}, or "
            "leave it out"
        )
    for name, pair in ranges.items():
        numbers = list(pair) if isinstance(pair, list | tuple) else []
        plain = len(numbers) == 2 and all(isinstance(each, int | float) for each in numbers)
        if not plain or not all(map(math.isfinite, numbers)) or numbers[0] > numbers[1]:
            raise ValueError(
                f"randomise gives '{name}' the range {pair!r}: give the least and the largest "
                "value, as in [0.8, 1.2]"
            )


def _number(env: Any, name: str) -> float:
    """Return a number of an environment, by its place."""
    *path, last = name.split(".")
    try:
        value = _part(_holder(env, path), last)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        held = vars(env).items()
        there = sorted(k for k, v in held if isinstance(v, int | float) and not isinstance(v, bool))
        raise ValueError(
            f"randomise names '{name}', and {type(env).__name__} has no such number: it has "
            f"{', '.join(there) or 'none itself'}; those of MuJoCo lie below model, as in "
            "model.body_mass.1"
        )
    return float(value)


def _holder(env: Any, path: Sequence[str]) -> Any:
    for part in path:
        env = _part(env, part)
    return env


def _part(owner: Any, name: str) -> Any:
    return owner[int(name)] if name.isdigit() else getattr(owner, name)


def _set(env: Any, name: str, value: float) -> None:
    *path, last = name.split(".")
    owner = _holder(env, path)
    if last.isdigit():
        owner[int(last)] = value
    else:
        setattr(owner, last, value)
