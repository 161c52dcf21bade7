"""Pictures of robots, drawn with NumPy alone: no graphics library, the same on every machine."""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.envs.drawing import Canvas
from hindsight_rl.envs.robots.engine import Data, Model, engine
from hindsight_rl.envs.robots.world import Array, Floats

Part = tuple[list[Array], float]
"""Points ``[3]``, and the radius of what is drawn from one to the next."""

_HEIGHT, _WIDTH = 360, 480
_TICK = 0.5
_BONE = 0.015  # radius of the lines of a skeleton, as a share of the picture's height
_FAR = 0.02  # metres behind the middle, from where on a limb is drawn in blue


class Drawn(Protocol):
    """What pictures need of a world: see :class:`World`."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def view(self) -> tuple[int, int]:
        """Axes to the right and upwards."""

    @property
    def extent(self) -> float:
        """Height, metres."""

    @property
    def skeleton(self) -> tuple[tuple[str, ...], ...]:
        """Bodies between which lines are drawn."""

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return places and radii of a task."""

    def centre(self, data: Data) -> Array:
        """Return the place in the middle."""


def picture(world: Drawn, data: Data, task: Floats) -> NDArray[np.uint8]:
    """Return a picture of a robot, in its world's view.

    Args:
        world: The world.
        data: MuJoCo's data, of this moment.
        task: ``[Z]``.

    Returns:
        ``[360, 480, 3]``.
    """
    mujoco = engine()
    mujoco.mj_kinematics(world.model, data)
    scale = _HEIGHT / world.extent
    middle = _flat(world, world.centre(data))
    low = middle - np.array([_HEIGHT, _WIDTH]) / scale / 2
    canvas = Canvas(_HEIGHT / scale, _WIDTH / scale, scale, (float(low[0]), float(low[1])))
    _ground(canvas, world, low, scale)
    for place, radius in world.marks(task):
        canvas.disc(_flat(world, np.asarray(place)), radius, "goal")
    parts = _skeleton(world, data) if world.skeleton else _limbs(world, data)
    behind = [_behind(world, np.mean(points, axis=0)) for points, _ in parts]
    for i in sorted(range(len(parts)), key=lambda i: -behind[i]):
        points, radius = parts[i]
        color = "trail" if behind[i] > _FAR else "agent"
        if len(points) > 1:
            canvas.line([_flat(world, point) for point in points], color, 2 * radius * scale)
        else:
            canvas.disc(_flat(world, points[0]), radius, color)
    return canvas.pixels


def _limbs(world: Drawn, data: Data) -> list[Part]:
    """Return the geoms of bodies: both ends of long ones, the middle of others; and their radii."""
    shapes, model = engine().mjtGeom, world.model
    parts: list[Part] = []
    for geom in np.flatnonzero(model.geom_bodyid > 0):
        radius, half, _ = model.geom_size[geom]
        where, axis = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)[:, 2]
        long = model.geom_type[geom] in (shapes.mjGEOM_CAPSULE, shapes.mjGEOM_CYLINDER)
        ends = [where - half * axis, where + half * axis] if long else [where]
        parts.append((ends, float(radius)))
    return parts


def _skeleton(world: Drawn, data: Data) -> list[Part]:
    """Return lines from body to body, for robots whose geoms are meshes."""
    parts: list[Part] = []
    for names in world.skeleton:
        points = [data.xpos[world.model.body(name).id].copy() for name in names]
        lines = [list(pair) for pair in itertools.pairwise(points)] or [points]
        parts += [(line, _BONE * world.extent) for line in lines]
    return parts


def _flat(world: Drawn, place: Array) -> Array:
    """Return where a place ``[3]`` is drawn: downwards, to the right."""
    right, up = world.view
    return np.array([-place[up], place[right]])


def _behind(world: Drawn, place: Array) -> float:
    """Return how far a place ``[3]`` lies behind the middle of the robot, metres."""
    right, up = np.eye(3)[list(world.view)]
    return -float(np.cross(right, up) @ place)


def _ground(canvas: Canvas, world: Drawn, low: Array, scale: float) -> None:
    """Draw the ground and a mark every half metre of it, in a view from the side."""
    if world.view[1] != 2:
        return
    right = low[1] + _WIDTH / scale
    canvas.line([(0.0, low[1]), (0.0, right)], "wall")
    for at in np.arange(np.ceil(low[1] / _TICK) * _TICK, right, _TICK):
        canvas.line([(0.0, at), (0.06 * world.extent / 3, at)], "wall")
