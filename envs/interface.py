"""Between an environment and a policy: the observation, the task, whether they fit.

How an observation reaches the policy:

- ``Box``: as it is, as float32;
- ``Dict`` with ``desired_goal`` (a goal environment): that is the policy's task, ``observation``
  (or what else there is) its observation; ``achieved_goal`` is not shown;
- any ``Dict`` of boxes: flattened and joined in the order of the space, nested ones in turn, as the
  readers of logs do (:mod:`hindsight_rl.entries`). Images are not flattened.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl import entries
from hindsight_rl.envs.actions import ActionSpace
from hindsight_rl.envs.entry_spaces import EntriesPart, is_wide, shown_in
from hindsight_rl.envs.entry_spaces import RolloutError as RolloutError
from hindsight_rl.envs.randomised import RANDOMISE, SHOW_CONTEXT, randomised
from hindsight_rl.envs.trials import TRIAL, trials
from hindsight_rl.spec import ActionSpec, Entry, Spec, TaskSpec

Env = gymnasium.Env[Any, Any]
EnvSource = str | Callable[[], Env]
"""A Gymnasium id (``module:Id-v0`` imports a module first), or a function that makes one."""


Observed = NDArray[Any] | dict[str, NDArray[Any]]
"""``[O]`` float32, or ``[...]`` by entry, each in its own type."""


class Seen(NamedTuple):
    """What a policy sees of one observation, and, in a goal environment, its task ``[Z]``."""

    observation: Observed
    task: NDArray[np.float32] | None


class Interface:
    """The observation and action spaces of an environment, as a policy meets them.

    Args:
        env: The environment.
        name: Its name, for messages.
        entries_of: The spec of a policy. Where its observation has entries, those are shown by
            name; else all that is observed is joined. What it subtracts an offset from is shown in
            float64.
        images: Show entries by name where one of them is an image, instead of an error.

    Raises:
        RolloutError: A space is of a kind no policy can serve, or its entries are not the policy's.
    """

    def __init__(
        self, env: Env, name: str, entries_of: Spec | None = None, *, images: bool = False
    ) -> None:
        leaves = dict(_leaves(env.observation_space))
        found = entries.roles(list(leaves))
        if not found.observation:
            raise RolloutError(f"{name}: observes {env.observation_space}, which holds goals alone")
        self._observation: _Part | EntriesPart
        seen = {path: leaves[path] for path in found.observation}
        if entries_of is not None and entries_of.whole is None:
            self._observation = EntriesPart(seen, entries_of.observation, name)
        elif (
            images
            and not entries.is_whole(found.observation)
            and any(map(_is_image, seen.values()))
        ):
            self._observation = EntriesPart.own(seen, name)
        else:
            whole = None if entries_of is None else entries_of.whole
            self._observation = _Part(leaves, found.observation, name, whole)
        asked = None if entries_of is None else entries_of.task
        self._task = _Part(leaves, found.task, name, asked) if found.task else None
        shown = found.achieved and all(isinstance(leaves[p], spaces.Box) for p in found.achieved)
        self._achieved = _Part(leaves, found.achieved, name) if shown else None
        parts = {"observation": self._observation, "task": self._task, "achieved": self._achieved}
        self._wide = {n: p for n, p in parts.items() if isinstance(p, _Part) and p.wide}
        self.name = name
        self.observation_shape = self._observation.shape
        self.task_shape = None if self._task is None else self._task.shape
        if not isinstance(env.action_space, spaces.Box | spaces.Discrete):
            raise RolloutError(
                f"{name}: its actions are {env.action_space}, and a policy gives real numbers "
                "(Box) or one choice (Discrete). Wrap the environment."
            )
        self.actions = ActionSpace(env, name)
        self.discrete, self.action_shape = self.actions.discrete, self.actions.shape

    def see(self, observation: Any) -> Seen:
        """Return what the policy sees of an observation, in arrays of its own.

        An environment may hand out the same buffer at every step, hence the copies.
        """
        task = None if self._task is None else self._task.of(observation)
        return Seen(self._observation.of(observation), task)

    def exact(self, observation: Any) -> dict[str, NDArray[Any]]:
        """Return what float32 may not hold of an observation, in its own type: copies, by key.

        Args:
            observation: As the environment gives it.

        Returns:
            ``observation`` ``[O]`` (or entries by their names), ``task`` ``[Z]``, ``achieved``
            ``[Z]``, of each where its space has a wider type than float32 holds exactly.
        """
        found = {name: part.exact(observation) for name, part in self._wide.items()}
        if isinstance(self._observation, EntriesPart):
            found |= self._observation.exact(observation)
        return found

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the entries that are shown by name; none where all is one array."""
        part = self._observation
        return part.labels if isinstance(part, EntriesPart) else ()

    @property
    def achieves(self) -> bool:
        """Whether a goal environment shows what was achieved, in numbers."""
        return self._task is not None and self._achieved is not None

    def achieved(self, observation: Any) -> NDArray[np.float32]:
        """Return the goal that an observation achieved, ``[Z]``; only where :attr:`achieves`."""
        if self._achieved is None:
            raise RolloutError(f"{self.name}: shows no achieved_goal of real numbers")
        return self._achieved.of(observation).ravel()

    @property
    def names(self) -> dict[str, list[str]]:
        """Names of what is joined of a ``Dict``, by ``observation`` and ``task``."""
        parts = {"observation": self._observation, "task": self._task}
        return {key: list(part.names) for key, part in parts.items() if part and part.names}

    def check_answers(self, answers: NDArray[Any], rows: int) -> None:
        """Check the answers of a policy for so many environments.

        Args:
            answers: What it answered.
            rows: For how many observations.

        Raises:
            ValueError: They have another shape than actions, or are not finite.
        """
        expected = (rows, *self.action_shape)
        if answers.shape != expected:
            raise ValueError(
                f"{self.name}: the policy answered with shape {list(answers.shape)}, and "
                f"{rows} environments take {list(expected)}"
            )
        if not np.isfinite(answers).all():
            raise ValueError(f"{self.name}: the policy answered with numbers that are not finite")

    def check_fit(self, spec: Spec) -> None:
        """Check a policy against this environment.

        Args:
            spec: The policy's spec.

        Raises:
            RolloutError: They do not fit.
        """
        here, whole = list(self.observation_shape), spec.whole
        there = f"the entries {list(spec.observation)}" if whole is None else list(whole.shape)
        if here != there and not isinstance(self._observation, EntriesPart):  # checked already
            raise RolloutError(
                f"{self.name}: observes {here}, and the policy takes {there}. It was fitted to "
                "another environment, or to observations changed by a wrapper."
            )
        self._check_task(spec.task)
        self._check_action(spec.action)
        self.check_names(spec)

    def check_names(self, spec: Spec) -> None:
        """Check that the inputs of a policy are, by name, what a ``Dict`` shows, in its order.

        Args:
            spec: The policy's spec.

        Raises:
            RolloutError: Names differ in content or order.
        """
        parts = {"observation": spec.whole, "task": spec.task}
        self.compare_names({key: part.names for key, part in parts.items() if part is not None})

    def compare_names(self, given: Mapping[str, Sequence[str] | None]) -> None:
        """Check names of inputs against what a ``Dict`` shows, in its order.

        Args:
            given: Names of the entries of ``observation`` and ``task``, where they are known.

        Raises:
            RolloutError: Names differ in content or order.
        """
        for key, here in self.names.items():
            there = given.get(key)
            if not there or entries.are_numbered(there, key):
                warnings.warn(
                    f"{self.name}: the policy's {key} has no names, so that the order of its "
                    f"entries cannot be checked. It is taken to be {', '.join(here[:40])}: give "
                    f"`names: {{{key}: [...]}}` in the column map of the log",
                    stacklevel=2,
                )
            elif problem := entries.mismatch(there, here):
                raise RolloutError(
                    f"{self.name}: its {key} {problem}. Fit it to a log with the entries in the "
                    f"environment's order, or correct `names: {{{key}: [...]}}` in the column map."
                )

    def _check_task(self, task: TaskSpec | None) -> None:
        if self.task_shape is None:
            return
        here = list(self.task_shape)
        there = "no task" if task is None else f"a task of shape {list(task.shape)}"
        if task is None or list(task.shape) != here:
            raise RolloutError(
                f"{self.name}: gives a goal of shape {here}, and the policy takes {there}. "
                "Fit one whose task is the goal."
            )

    def _check_action(self, action: ActionSpec) -> None:
        space = self.actions
        shape = list(self.action_shape)
        here = _choices(space.n, space.start) if space.discrete else f"real numbers {shape}"
        there = f"real numbers {list(action.shape)}"
        if action.discrete:
            n, start = action.n, action.start
            there = _choices(n, start)
            # A log need not show every choice there is.
            if space.discrete and space.start <= start and start + n <= space.start + space.n:
                return
        if here != there:
            flat = " Wrap it: logs hold matrices as vectors." if len(shape) > 1 else ""
            raise RolloutError(f"{self.name}: takes {here}, and the policy gives {there}.{flat}")
        if not space.discrete:
            space.warn_of_scale(action)


def _choices(n: int, start: int) -> str:
    return f"one of {n} choices" + (f" from {start}" if start else "")


def make(source: EnvSource, env_kwargs: Mapping[str, Any] | None = None, *, draw: bool) -> Env:
    """Return a new environment.

    Args:
        source: Gymnasium id, or a function that makes one.
        env_kwargs: Passed to ``gymnasium.make``, but for what ``randomised`` takes, and ``trial``
            for ``Trial``: the numbers of a trial are drawn once.
        draw: Whether its frames are wanted.

    Returns:
        The environment, not yet reset.

    Raises:
        RolloutError: It cannot be made; the message says what to install or to write.
    """
    kwargs = dict(env_kwargs or {})
    drawn = {name: kwargs.pop(name, None) for name in (RANDOMISE, SHOW_CONTEXT)}
    episodes = kwargs.pop(TRIAL, None)
    env = _made(source, kwargs, draw)
    return randomised(env if episodes is None else trials(env, episodes, source), drawn, source)


def _made(source: EnvSource, kwargs: dict[str, Any], draw: bool) -> Env:
    """Return a new environment as it is registered, or as a function makes it."""
    if not isinstance(source, str):
        return source()
    kwargs = kwargs | ({"render_mode": "rgb_array"} if draw else {})
    try:
        return gymnasium.make(source, disable_env_checker=True, **kwargs)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        if "hindsight-rl[" in str(error):  # ours, which name their extra
            raise RolloutError(f"{source}: {error}") from error
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
        raise RolloutError(f"{source}: does not take its arguments {kwargs} ({error})") from error


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


class _Part:
    """What is shown of some entries: a single array as it is, several joined in their order."""

    def __init__(
        self,
        leaves: Mapping[entries.Entry, spaces.Space[Any]],
        paths: Sequence[entries.Entry],
        name: str,
        taken: Entry | None = None,
    ) -> None:
        self._paths, self._whole = tuple(paths), entries.is_whole(paths)
        self._dtype = shown_in(taken, (leaves[path] for path in paths), name)
        shapes = [_shape(leaves[path], name) for path in paths]
        self.wide = any(is_wide(leaves[path]) for path in paths)
        self.names: tuple[str, ...] = ()
        if self._whole:
            self.shape = shapes[0]
            return
        sizes = [int(np.prod(shape)) for shape in shapes]
        for path, shape in zip(paths, shapes, strict=True):
            if entries.is_image(shape, str(leaves[path].dtype)):
                raise RolloutError(
                    f"{name}: its entry '{'/'.join(path)}' looks like an image "
                    f"({leaves[path].dtype} {list(shape)}), and is not flattened unasked. A policy "
                    "is shown it by name if it is fitted to a log whose column map says "
                    f"`observation: {entries.map_of(paths)}`. Or wrap the environment: "
                    "gymnasium.wrappers.FilterObservation leaves it out, FlattenObservation "
                    "flattens it."
                )
        named = zip(paths, sizes, strict=True)
        self.names = tuple(n for path, size in named for n in entries.dimension_names(path, size))
        self.shape = (sum(sizes),)

    def of(self, observation: Any) -> NDArray[Any]:
        """Return the numbers of an observation, a copy; float64 where an offset is subtracted."""
        values = self._values(observation)
        if self._whole:
            return np.array(values[0], dtype=self._dtype)
        return np.concatenate([np.asarray(value, dtype=self._dtype).ravel() for value in values])

    def exact(self, observation: Any) -> NDArray[Any]:
        """Return the numbers of an observation in their own type, a copy."""
        return np.concatenate([np.asarray(value).ravel() for value in self._values(observation)])

    def _values(self, observation: Any) -> list[Any]:
        """Return the entries of an observation, in their order."""
        values = []
        for path in self._paths:
            value = observation
            for key in path:
                value = value[key]
            values.append(value)
        return values


def _leaves(
    space: spaces.Space[Any], path: entries.Entry = ()
) -> Iterator[tuple[entries.Entry, spaces.Space[Any]]]:
    """Yield the entries of a space that are no dictionaries, in its order."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path, space


def _is_image(space: spaces.Space[Any]) -> bool:
    """Return whether an entry is bytes, as logs hold images."""
    return (
        isinstance(space, spaces.Box)
        and entries.is_image(space.shape, str(space.dtype))
        and (space.dtype == np.uint8)
    )


def _shape(space: spaces.Space[Any], name: str) -> tuple[int, ...]:
    """Return the shape of an entry that a policy can see."""
    if isinstance(space, spaces.Box):
        return space.shape
    raise RolloutError(
        f"{name}: observes {space}, and a policy sees real numbers (Box, or a Dict of them). "
        "Wrap the environment, or name its entries in the log's column map: they may be choices."
    )
