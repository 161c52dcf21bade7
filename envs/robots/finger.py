"""Finger: turn a knob until its tip is where it should be."""

from collections.abc import Sequence

import numpy as np

from hindsight_rl.envs.robots.engine import Data, engine, random_joints, suite_model
from hindsight_rl.envs.robots.world import Array, Floats, GoalWorld, Start, State, on_circle

ARM = 0.13
"""Distance of the knob's tip from its hinge, metres: goals lie on this circle."""

_HINGE = (0.2, 0.0, 0.4)


class Finger(GoalWorld):
    """Turn a free knob by pushing it. The task (``desired_goal``, ``[2]``) is a place of its tip.

    Goals and ``achieved_goal`` are places (x, z) of the tip about the hinge, metres; goals are
    uniform on the circle. Observation ``[9]``: two angles of the finger, the tip, three velocities,
    and log(1 + force) of two touch sensors. Action ``[2]``: torques in [-1, 1]. Episodes start at
    rest in a random pose in which nothing touches.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        ends: Reaching the goal terminates.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C.
    """

    substeps = 2
    task_low, task_high = (-ARM, -ARM), (ARM, ARM)
    observation_names = ("proximal", "distal", "tip_x", "tip_z") + (
        *(f"{joint}_velocity" for joint in ("proximal", "distal", "knob")),
        *("touch_top", "touch_bottom"),
    )
    achieved_names = ("tip_x", "tip_z")
    extent = 1.0

    def __init__(self, radius: float = 0.01, ends: bool = True) -> None:
        super().__init__(radius, ends)
        self.model = suite_model("finger")
        self._mujoco = engine()
        self._data = self._mujoco.MjData(self.model)
        self._touch = [self.model.sensor(f"touch{side}").adr[0] for side in ("top", "bottom")]

    def start(self, generator: np.random.Generator) -> Start:
        """Return a random pose without a contact, at rest."""
        while True:
            self._data.qpos[:] = random_joints(self.model, generator)
            self._mujoco.mj_fwdPosition(self.model, self._data)
            if self._data.ncon == 0:
                return self._data.qpos.copy(), np.zeros(self.model.nv)

    def sample_task(self, generator: np.random.Generator) -> Array:
        """Return a place on the circle."""
        return on_circle(generator, ARM)

    def observe(self, state: State) -> Array:
        """Return angles, tip, velocities and touch, ``[N, 9]``."""
        touch = np.log1p(state.sensors[:, self._touch])
        return np.concatenate([state.qpos[:, :2], _tip(state.qpos), state.qvel, touch], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the knob's tip, ``[N, 2]``."""
        return _tip(state.qpos)

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the goal."""
        x, z = self.goal(task)
        place = (_HINGE[0] + float(x), -1.0, _HINGE[2] + float(z))
        return [(place, max(self.radius, 0.02))]

    def centre(self, data: Data) -> Array:
        """Return a place between finger and knob."""
        return np.array([0.0, 0.0, _HINGE[2]])


def _tip(qpos: Array) -> Array:
    """Return where the knob's tip is, ``[N, 2]``, metres from the hinge."""
    angle = np.ascontiguousarray(qpos[:, 2])
    return ARM * np.stack([-np.sin(angle), np.cos(angle)], axis=1)
