"""Pictures of robots, drawn with NumPy alone: no graphics library, the same on every machine."""

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.envs.drawing import Canvas
from hindsight_rl.envs.robots.engine import Data, engine
from hindsight_rl.envs.robots.world import Array, Floats, World

_HEIGHT, _WIDTH = 360, 480
_TICK = 0.5
_FAR = 0.02  # metres behind the middle, from where on a limb is drawn in blue


def picture(world: World, data: Data, task: Floats) -> NDArray[np.uint8]:
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
    model = world.model
    long = {mujoco.mjtGeom.mjGEOM_CAPSULE.value, mujoco.mjtGeom.mjGEOM_CYLINDER.value}
    geoms = np.flatnonzero(model.geom_bodyid > 0)
    behind = _behind(world, data.geom_xpos[geoms])
    for geom, far in sorted(zip(geoms, behind, strict=True), key=lambda pair: -pair[1]):
        radius, half, _ = model.geom_size[geom]
        where, axis = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)[:, 2]
        color = "trail" if far > _FAR else "agent"
        if model.geom_type[geom] in long:
            ends = [_flat(world, where + side * half * axis) for side in (-1, 1)]
            canvas.line(ends, color, 2 * radius * scale)
        else:
            canvas.disc(_flat(world, where), float(radius), color)
    return canvas.pixels


def _flat(world: World, place: Array) -> Array:
    """Return where a place ``[3]`` is drawn: downwards, to the right."""
    right, up = world.view
    return np.array([-place[up], place[right]])


def _behind(world: World, places: Array) -> Array:
    """Return how far places ``[N, 3]`` lie behind the middle of the robot, metres."""
    depth = 1 if world.view[1] == 2 else 2
    behind: Array = places[:, depth] * (1.0 if depth == 1 else -1.0)
    return behind


def _ground(canvas: Canvas, world: World, low: Array, scale: float) -> None:
    """Draw the ground and a mark every half metre of it, in a view from the side."""
    if world.view[1] != 2:
        return
    right = low[1] + _WIDTH / scale
    canvas.line([(0.0, low[1]), (0.0, right)], "wall")
    for at in np.arange(np.ceil(low[1] / _TICK) * _TICK, right, _TICK):
        canvas.line([(0.0, at), (0.06 * world.extent / 3, at)], "wall")
