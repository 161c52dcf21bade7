"""Planar walker: a task weighs height, speed, places of the feet and effort."""

import numpy as np

from hindsight_rl.envs.robots.engine import suite_model
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
_FEET = (3, 6)


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
        self._share = self.model.body_mass[1:] / self.model.body_mass[1:].sum()
        self._inner = self.model.body_ipos[1:, [0, 2]].copy()

    def start(self, generator: np.random.Generator) -> Start:
        """Return the upright pose, at rest."""
        return self.model.qpos0.copy(), np.zeros(self.model.nv)

    def observe(self, state: State) -> Array:
        """Return height, angles and velocities, ``[N, 24]``."""
        angle = _angles(state.qpos)
        turned = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(len(angle), -1)
        return np.concatenate([_STANDING + state.qpos[:, :1], turned, state.qvel], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the features, ``[N, 7]``."""
        angle = _angles(state.qpos)
        places = _places(state.qpos, angle)
        middle = np.zeros((len(angle), 2))
        for body, share in enumerate(self._share):
            middle += share * (places[body] + _turned(angle[:, body], *self._inner[body]))
        feet = [places[foot] - middle + np.array([0.0, 0.7]) for foot in _FEET]
        height, speed = _STANDING + state.qpos[:, :1] - 0.5, state.qvel[:, 1:2]
        effort = (action * action).sum(1, keepdims=True)
        return np.concatenate([height, speed, *feet, effort], axis=1)

    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return weights times features."""
        reward: Floats = (achieved * task).sum(-1)
        return reward


def _angles(qpos: Array) -> Array:
    """Return the angles of the seven bodies, ``[N, 7]``, radians."""
    torso = qpos[:, 2:3]
    right, left = np.cumsum(qpos[:, 3:6], axis=1), np.cumsum(qpos[:, 6:9], axis=1)
    return np.concatenate([torso, torso - right, torso - left], axis=1)


def _turned(angle: Array, x: float, z: float) -> Array:
    """Return an offset (x, z) of bodies at an angle, ``[N, 2]``."""
    sin, cos = np.sin(angle), np.cos(angle)
    return np.stack([x * cos + z * sin, z * cos - x * sin], axis=1)


def _places(qpos: Array, angle: Array) -> list[Array]:
    """Return the places (x, z) of the seven bodies, ``[N, 2]`` each; lengths are the model's."""
    torso = np.stack([qpos[:, 1], _STANDING + qpos[:, 0]], axis=1)
    found = [torso]
    for thigh in (1, 4):
        leg, foot = thigh + 1, thigh + 2
        hip = torso + _turned(angle[:, 0], 0.0, -0.3)
        knee = hip + _turned(angle[:, thigh], 0.0, -0.45)
        shin = knee + _turned(angle[:, leg], 0.0, -0.25)
        ankle = shin + _turned(angle[:, leg], 0.0, -0.25)
        found += [hip, shin, ankle + _turned(angle[:, foot], 0.06, 0.0)]
    return found
