"""Planar walker: a task weighs height, speed, places of the feet and effort."""

import numpy as np

from hindsight_rl.envs.robots.engine import Model, suite_model
from hindsight_rl.envs.robots.world import Array, Floats, Start, State, World

LOW = (-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0)
HIGH = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
"""Tasks are uniform between ``LOW`` and ``HIGH``."""

_BODIES = (
    "torso",
    *(f"{side}_{part}" for side in ("right", "left") for part in ("thigh", "leg", "foot")),
)
_JOINTS = ("z", "x", "y") + tuple(
    f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")
)
_STANDING = 1.3  # height of the torso where the joint of its height is 0, metres
_FEET = (_BODIES.index("right_foot"), _BODIES.index("left_foot"))
_FEET_OFFSET = np.array([0.0, 0.7, 0.0, 0.7])


class Walker(World):
    """Walk, crouch, lift a foot: the reward is weights (the task) times features of the step.

    Features (``achieved_goal``, ``[7]``): height of the torso - 0.5 m; its speed forwards, m/s; the
    place (x, z + 0.7) of the right and then the left foot about the centre of mass, m; squared
    length of the action. They are those of the state after the step; effort is nought before the
    first. Observation ``[24]``: height, cosine and sine of the angle of each of seven bodies, nine
    joint velocities. Action ``[6]``: torques in [-1, 1]. Episodes start upright and at rest, and
    none ends.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C. Its published code reads the feet from
        the matrix of orientations, not their places as its text says; here they are the places.
    """

    substeps = 10
    task_low, task_high = LOW, HIGH
    observation_names = (
        "height",
        *(f"{body}_{part}" for body in _BODIES for part in ("cos", "sin")),
        *(f"{joint}_velocity" for joint in _JOINTS),
    )
    achieved_names = (
        "height",
        "speed",
        *(f"{side}_foot_{axis}" for side in ("right", "left") for axis in "xz"),
        "effort",
    )

    def __init__(self) -> None:
        self.model = suite_model("walker")
        self._feet = _feet(self.model)

    def start(self, generator: np.random.Generator) -> Start:
        """Return the upright pose, at rest."""
        return self.model.qpos0.copy(), np.zeros(self.model.nv)

    def observe(self, state: State) -> Array:
        """Return height, angles and velocities, ``[N, 24]``."""
        height = _STANDING + state.qpos[:, :1]
        return np.concatenate([height, _turned(state.qpos), state.qvel], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the features, ``[N, 7]``."""
        # A product of matrices would sum in another order for one robot than for many.
        feet = (_turned(state.qpos)[:, :, None] * self._feet).sum(1) + _FEET_OFFSET
        height, speed = _STANDING + state.qpos[:, :1] - 0.5, state.qvel[:, 1:2]
        effort = (action * action).sum(1, keepdims=True)
        return np.concatenate([height, speed, feet, effort], axis=1)

    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return weights times features."""
        reward: Floats = (achieved * task).sum(-1)
        return reward


def _turned(qpos: Array) -> Array:
    """Return cosine and sine of the angle of each body in turn, ``[N, 14]``."""
    torso = qpos[:, 2:3]
    right, left = np.cumsum(qpos[:, 3:6], axis=1), np.cumsum(qpos[:, 6:9], axis=1)
    angle = np.concatenate([torso, torso - right, torso - left], axis=1)
    return np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(len(angle), -1)


def _feet(model: Model) -> Array:
    """Return what cosines and sines make of the places of both feet about the centre of mass.

    A point (x, z) of a body at angle t lies at (x cos t + z sin t, z cos t - x sin t) from the
    body's origin, and a body turns about the anchor of its joint. So places are linear in cosines
    and sines, with the model's lengths as coefficients; that of the torso is the same for all.

    Args:
        model: Of the walker.

    Returns:
        ``[14, 4]``: rows as :func:`_turned` gives them; x and z of the right foot, then the left.
    """

    def turned(body: int, offset: Array) -> Array:
        x, _, z = offset
        found = np.zeros((2 * len(_BODIES), 2))
        found[2 * body : 2 * body + 2] = [[x, z], [z, -x]]
        return found

    places = [np.zeros((2 * len(_BODIES), 2))]
    for body in range(1, len(_BODIES)):
        above = int(model.body_parentid[body + 1]) - 1  # body 0 of the model is the world
        anchor = model.jnt_pos[model.body_jntadr[body + 1]]
        hung = turned(above, model.body_pos[body + 1] + anchor) - turned(body, anchor)
        places.append(places[above] + hung)
    share = model.body_mass[1:] / model.body_mass[1:].sum()
    centres = [place + turned(i, model.body_ipos[i + 1]) for i, place in enumerate(places)]
    middle = np.tensordot(share, np.array(centres), axes=1)
    return np.concatenate([places[foot] - middle for foot in _FEET], axis=1)
