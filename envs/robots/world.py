"""What differs between robots: model, first states, tasks, what is seen and what is achieved.

:class:`RobotEnv` plays a world alone and :class:`RobotVectorEnv` many times at once. Both ask the
same functions about states ``[N, ...]``, which is why they give the same numbers.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.robots.engine import Data, Model

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Observation = dict[str, Floats]
Start = tuple[Array, Array]

BEGINNING = 1.0
"""Time of first states, seconds: MuJoCo starts a simulation that diverges anew, at time 0."""


class State(NamedTuple):
    """Physics of N worlds, contiguous; SI units and radians.

    Attributes:
        qpos: ``[N, nq]``, positions of the joints.
        qvel: ``[N, nv]``, their velocities.
        act: ``[N, na]``, states of the actuators.
        sensors: ``[N, S]``. Those of forces and accelerations are of one physics step before.
        pulls: ``[N, 3 M]``, places of the bodies that pull others (MuJoCo's mocap bodies).
    """

    qpos: Array
    qvel: Array
    act: Array
    sensors: Array
    pulls: Array


class World(ABC):
    """One robot and its tasks; a task is what ``desired_goal`` holds.

    Attributes:
        model: The MuJoCo model.
        substeps: Physics steps of one step.
        ends: Whether success terminates.
        has_success: Whether there is success.
        task_low: ``[Z]``, smallest values of tasks.
        task_high: ``[Z]``, largest.
        observation_names: ``[O]``.
        achieved_names: ``[G]``.
        view: Axes of pictures: to the right, upwards.
        extent: Height of a picture, metres.
        skeleton: Bodies between which pictures draw lines; by default they draw the geoms.
    """

    model: Model
    substeps: int = 1
    ends: bool = False
    has_success: bool = False
    task_low: Sequence[float]
    task_high: Sequence[float]
    observation_names: tuple[str, ...]
    achieved_names: tuple[str, ...]
    view: tuple[int, int] = (0, 2)
    extent: float = 3.0
    skeleton: tuple[tuple[str, ...], ...] = ()

    @abstractmethod
    def start(self, generator: np.random.Generator) -> Start:
        """Return joint positions ``[nq]`` and velocities ``[nv]`` of a first state."""

    def sample_task(self, generator: np.random.Generator) -> Array:
        """Return a task ``[Z]`` of the prior: uniform in the box, if nothing else is said."""
        return generator.uniform(self.task_low, self.task_high)

    @abstractmethod
    def observe(self, state: State) -> Array:
        """Return what is seen of states, ``[N, O]``."""

    @abstractmethod
    def achieved(self, state: State, action: Array) -> Array:
        """Return all that rewards and ends depend on.

        Args:
            state: After the step.
            action: ``[N, A]``, that led there; zeros in a first state.

        Returns:
            ``[N, G]``.
        """

    @abstractmethod
    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return rewards ``[...]`` of ``[..., G]`` for tasks ``[..., Z]``."""

    def success(self, achieved: Floats, task: Floats) -> Flags:
        """Return whether tasks ``[..., Z]`` are fulfilled by ``[..., G]``, ``[...]``."""
        return np.zeros(np.broadcast_shapes(achieved.shape[:-1], task.shape[:-1]), np.bool_)

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return what pictures show of a task ``[Z]``: places ``[3]`` and radii, metres."""
        return []

    def centre(self, data: Data) -> Array:
        """Return the place ``[3]`` in the middle of a picture."""
        return np.array([data.xpos[1][0], data.xpos[1][1], 1.0])

    def task_space(self) -> spaces.Box:
        """Return the space of tasks."""
        return spaces.Box(np.array(self.task_low, np.float32), np.array(self.task_high, np.float32))

    def observation_space(self) -> spaces.Dict:
        """Return the space of observations."""
        seen, got = (
            spaces.Box(-np.inf, np.inf, (len(names),), np.float32)
            for names in (self.observation_names, self.achieved_names)
        )
        return spaces.Dict(
            {"observation": seen, "achieved_goal": got, "desired_goal": self.task_space()}
        )

    def action_bounds(self) -> tuple[Array, Array]:
        """Return the smallest and the largest actions ``[A]``: the range of each actuator."""
        low, high = self.model.actuator_ctrlrange.T
        return low, high

    def action_space(self) -> spaces.Box:
        """Return the space of actions."""
        low, high = self.action_bounds()
        return spaces.Box(low.astype(np.float32), high.astype(np.float32))

    def drive(self, action: Array, pulls: Array) -> tuple[Array, Array]:
        """Return what a step gives to the simulator; if no more is said, actuators get the action.

        Args:
            action: ``[N, A]``, within the bounds.
            pulls: ``[N, 3 M]``, where the pulling bodies are.

        Returns:
            ``[N, nu]`` for the actuators, and where the pulling bodies go, ``[N, 3 M]``.
        """
        return action, pulls

    def controls(self, action: ArrayLike) -> Array:
        """Return actions within their bounds.

        Args:
            action: ``[N, A]``.

        Returns:
            ``[N, A]`` float64, clipped; NaN is a ``ValueError``.
        """
        return clipped(action, *self.action_bounds())

    def read_task(self, options: Mapping[str, Any] | None) -> Floats | None:
        """Return the task ``[Z]`` that options of a reset name, ``None`` if they name none.

        Args:
            options: ``task``, or nothing.

        Returns:
            float32.

        Raises:
            ValueError: An option is unknown, or the task is none of this world.
        """
        options = options or {}
        if unknown := set(options) - {"task"}:
            raise ValueError(f"options has {sorted(unknown)}; known is 'task'")
        if "task" not in options:
            return None
        task = np.array(options["task"], np.float32)
        if not self.task_space().contains(task):
            raise ValueError(f"task is {options['task']!r}: it must lie in {self.task_space()}")
        return task


class GoalWorld(World):
    """A task is a place: reward 0 within ``radius`` of it, else -1, and success ends the episode.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        ends: Reaching the goal terminates. False for logs without a task, in which an end would
            give away the goal.

    Raises:
        ValueError: ``radius`` is not above 0.
    """

    has_success = True

    def __init__(self, radius: float, ends: bool) -> None:
        if not radius > 0:
            raise ValueError(f"radius is {radius}: it must be above 0")
        self.radius, self.ends = radius, ends

    def goal(self, task: Floats) -> Floats:
        """Return the places ``[..., G]`` that tasks ``[..., Z]`` mean."""
        return task

    def margin(self, task: Floats) -> Floats:
        """Return the distances that count as reached, for tasks ``[..., Z]``."""
        return np.asarray(self.radius, np.float32)

    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return 0 or -1."""
        return self.success(achieved, task).astype(np.float32) - np.float32(1)

    def success(self, achieved: Floats, task: Floats) -> Flags:
        """Return whether the places are within the margins of the goals."""
        reached: Flags = distance(achieved, self.goal(task)) <= self.margin(task)
        return reached


def clipped(action: ArrayLike, low: Array, high: Array) -> Array:
    """Return actions ``[..., A]`` within their bounds, float64.

    Args:
        action: ``[..., A]``.
        low: ``[A]``.
        high: ``[A]``.

    Returns:
        The actions.

    Raises:
        ValueError: A number is NaN.
    """
    given = np.asarray(action, np.float64)
    if np.isnan(given).any():
        raise ValueError(f"action {given.tolist()} has NaN: the policy that gave it is broken")
    within: Array = np.clip(given, low, high)
    return within


def distance(achieved: Floats, goal: Floats) -> Floats:
    """Return Euclidean distances ``[...]`` of places ``[..., G]``."""
    offset = achieved - goal
    length: Floats = np.sqrt((offset * offset).sum(-1))
    return length


def on_circle(generator: np.random.Generator, radius: float) -> Array:
    """Return a place ``[2]``, uniform on a circle about the origin."""
    angle = generator.uniform(0.0, 2 * np.pi)
    return radius * np.array([np.cos(angle), np.sin(angle)])


def check_time(model: Model, substeps: int, before: Array, after: Array) -> None:
    """Check that time went on by one step, which it does not where a simulation diverges.

    Args:
        model: The model.
        substeps: Physics steps of one step.
        before: ``[N]``, seconds.
        after: ``[N]``, seconds.

    Raises:
        RuntimeError: It did not.
    """
    strayed = np.abs(after - before - substeps * model.opt.timestep) > 1e-6
    if strayed.any():
        raise RuntimeError(
            f"the simulation of environment {int(strayed.argmax())} diverged (numbers that are not "
            "finite, or huge): reset it, and look at the actions of this step"
        )


def open_world(name: str, settings: Mapping[str, Any]) -> World:
    """Return a world of this package.

    Args:
        name: Module and class: ``walker:Walker``.
        settings: Its arguments.

    Returns:
        The world.
    """
    module, _, kind = name.partition(":")
    world: World = getattr(importlib.import_module(f"hindsight_rl.envs.robots.{module}"), kind)(
        **settings
    )
    return world


def parts(world: World, state: State, action: Array, task: Floats) -> Observation:
    """Return observations ``[N, ...]``, all arrays the caller's own.

    Args:
        world: The world.
        state: N states.
        action: ``[N, A]``, that led there.
        task: ``[N, Z]``.

    Returns:
        The three parts of a goal environment's observation.
    """
    return {
        "observation": world.observe(state).astype(np.float32),
        "achieved_goal": world.achieved(state, action).astype(np.float32),
        "desired_goal": task.copy(),
    }
