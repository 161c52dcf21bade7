"""Quadruped: walk to a place near by, with a sparse or a dense reward."""

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np

from hindsight_rl.envs.robots.engine import Data, Model, engine, suite_model
from hindsight_rl.envs.robots.world import (
    Array,
    Flags,
    Floats,
    GoalWorld,
    Start,
    State,
    distance,
    on_circle,
)

EFFORT = 0.1
"""Price of the squared length of an action, where the reward is dense."""

_UNUSED = {("geom", name) for name in ("wall_px", "wall_py", "wall_nx", "wall_ny", "terrain")} | {
    ("body", "ball"),
    ("site", "target"),
}
_FLOOR = "100 100 .5"
_FREE = 7  # numbers of the torso's free joint: place and quaternion


class Quadruped(GoalWorld):
    """Walk to a place. The task (``desired_goal``, ``[2]``) is where, on a circle about the start.

    ``achieved_goal`` is the place (x, y) of the torso, metres. Observation ``[82]``: place;
    direction (x, y) of the torso's front; joint positions, velocities and actuators; forces and
    torques at the toes (arcsinh); acceleration and turning of the torso; its upward direction; its
    velocity. Action ``[12]``: what the actuators of four legs are to reach, in their ranges.
    Episodes start upright and at rest.

    The paper's observation lacks the direction of the front, without which nobody knows where the
    goal is. Its text has goals on the unit circle, as here; its code overrides that by 3.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        distance: Of goals from the start, metres, above ``radius``.
        ends: Reaching the goal terminates.

    Raises:
        ValueError: ``distance`` is not above ``radius``.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C.
    """

    substeps = 4
    achieved_names: tuple[str, ...] = ("x", "y")
    view = (0, 1)

    def __init__(self, radius: float = 0.3, distance: float = 1.0, ends: bool = True) -> None:
        super().__init__(radius, ends)
        if not distance > radius:
            raise ValueError(f"distance is {distance}: it must be above radius, {radius}")
        self.distance, self.extent = distance, 2 * distance + 1.6
        self.task_low, self.task_high = (-distance, -distance), (distance, distance)
        self.model = suite_model("quadruped", _plain)
        self._first = _above_ground(self.model)
        self._acceleration, self._forces = _sensors(self.model)
        self.observation_names = _names(self.model)

    def start(self, generator: np.random.Generator) -> Start:
        """Return the upright pose, at rest, just above the ground."""
        return self._first.copy(), np.zeros(self.model.nv)

    def sample_task(self, generator: np.random.Generator) -> Array:
        """Return a place on the circle."""
        return on_circle(generator, self.distance)

    def observe(self, state: State) -> Array:
        """Return what the class says, ``[N, 82]``."""
        front, side, up = _axes(state.qpos[:, 3:_FREE])
        velocity = state.qvel[:, :3]
        return np.concatenate(
            [
                state.qpos[:, :2],
                front[:, :2],
                state.qpos[:, _FREE:],
                state.qvel[:, 6:],
                state.act,
                np.arcsinh(state.sensors[:, self._forces]),
                state.sensors[:, self._acceleration],
                state.qvel[:, 3:6],
                up[:, 2:],
                np.stack([(axis * velocity).sum(1) for axis in (front, side, up)], axis=1),
            ],
            axis=1,
        )

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the torso, ``[N, 2]``."""
        return state.qpos[:, :2]

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the goal."""
        return [((float(task[0]), float(task[1]), 0.0), self.radius)]

    def centre(self, data: Data) -> Array:
        """Return where episodes start."""
        return np.zeros(3)


class QuadrupedDense(Quadruped):
    """Walk to a place, rewarded for being near. Tasks and observations are :class:`Quadruped`'s.

    Reward: minus the distance from the goal, minus 0.1 times the squared length of the action,
    which ``achieved_goal`` ``[3]`` has after the place. The paper's code adds a constant, the
    distance of goals plus 1, which makes no task better than another. No episode ends;
    ``is_success`` says whether the torso is within ``radius`` of the goal.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        distance: Of goals from the start, metres, above ``radius``.
    """

    achieved_names = ("x", "y", "effort")

    def __init__(self, radius: float = 0.3, distance: float = 1.0) -> None:
        super().__init__(radius, distance, ends=False)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the torso and the effort, ``[N, 3]``."""
        effort = (action * action).sum(1, keepdims=True)
        return np.concatenate([state.qpos[:, :2], effort], axis=1)

    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return minus the distance, minus the price of the effort."""
        off = distance(achieved[..., :2], task)
        reward: Floats = -off - np.float32(EFFORT) * achieved[..., 2]
        return reward

    def success(self, achieved: Floats, task: Floats) -> Flags:
        """Return whether the places are within the radius of the goals."""
        return super().success(achieved[..., :2], task)


def _plain(tree: ElementTree.Element) -> None:
    """Take away walls, terrain, ball, target and range finders, as the suite does for running."""
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag == "rangefinder" or (child.tag, child.get("name")) in _UNUSED:
                parent.remove(child)
            elif (child.tag, child.get("name")) == ("geom", "floor"):
                child.set("size", _FLOOR)


def _above_ground(model: Model) -> Array:
    """Return the upright pose ``[nq]`` at the lowest height, in centimetres, without a contact."""
    mujoco = engine()
    data = mujoco.MjData(model)
    for height in np.arange(0.0, 2.0, 0.01):
        mujoco.mj_resetData(model, data)
        data.qpos[2] = height
        mujoco.mj_forward(model, data)
        if data.ncon == 0:
            break
    first: Array = data.qpos.copy()
    return first


def _sensors(model: Model) -> tuple[list[int], list[int]]:
    """Return which numbers of the sensors are acceleration, and forces and torques at the toes."""
    sensors = [model.sensor(number) for number in range(model.nsensor)]
    starts = {sensor.name: int(sensor.adr[0]) for sensor in sensors}
    toes = [start + part for name, start in starts.items() if "toe" in name for part in range(3)]
    return [starts["imu_accel"] + part for part in range(3)], toes


def _names(model: Model) -> tuple[str, ...]:
    """Return the names of what is observed."""
    joints = [model.joint(number).name for number in range(1, model.njnt)]
    actuators = [model.actuator(number).name for number in range(model.nu)]
    toes = [model.sensor(n).name for n in range(model.nsensor) if "toe" in model.sensor(n).name]
    return (
        *("x", "y", "front_x", "front_y"),
        *(f"{joint}_position" for joint in joints),
        *(f"{joint}_velocity" for joint in joints),
        *(f"{actuator}_actuator" for actuator in actuators),
        *(f"{toe}_{axis}" for toe in toes for axis in "xyz"),
        *(f"acceleration_{axis}" for axis in "xyz"),
        *(f"turning_{axis}" for axis in "xyz"),
        "upright",
        *(f"velocity_{axis}" for axis in "xyz"),
    )


def _axes(quaternion: Array) -> tuple[Array, Array, Array]:
    """Return the axes of bodies in the world, ``[N, 3]`` each, from unit quaternions ``[N, 4]``."""
    w, x, y, z = np.ascontiguousarray(quaternion.T)
    front = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    side = [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    up = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
    return np.stack(front, axis=1), np.stack(side, axis=1), np.stack(up, axis=1)
