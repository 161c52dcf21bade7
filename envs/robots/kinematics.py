"""Where parts of arms are, and the joint positions that bring a part to a pose."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hindsight_rl.envs.robots.engine import Data, engine
from hindsight_rl.envs.robots.world import Array

# Of the search for a pose. Far from it the steps are damped; one that hardly gains is the last.
_TOLERANCE, _STEPS = 1e-8, 100
_FAR, _DAMPING = 0.1, 0.03
_LONGEST, _STUCK = 2.0, 20.0
_TURN = 2.0  # metres that a radian counts as


def frames(data: Data, kind: str, names: Sequence[str], qpos: Array) -> tuple[Array, Array]:
    """Return where parts of robots are and how they are turned, by MuJoCo's kinematics.

    Args:
        data: Scratch data of the robots' model.
        kind: ``body`` or ``site``.
        names: K parts.
        qpos: ``[N, nq]``, joint positions.

    Returns:
        Places ``[N, K, 3]``, metres, and rotation matrices by rows, ``[N, K, 9]``.
    """
    mujoco, model = engine(), data.model
    which = [getattr(model, kind)(name).id for name in names]
    places, turns = np.empty((len(qpos), len(which), 3)), np.empty((len(qpos), len(which), 9))
    where, turned = (data.xpos, data.xmat) if kind == "body" else (data.site_xpos, data.site_xmat)
    for i, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        places[i], turns[i] = where[which], turned[which]
    return places, turns


def move_to(data: Data, site: str, place: Array, attitude: ArrayLike, joints: int) -> bool:
    """Move the first joints until a site has a pose, by damped least squares.

    Args:
        data: Of the model; its joint positions are where the search starts and ends.
        site: Name.
        place: ``[3]``, metres.
        attitude: Unit quaternion ``[4]``.
        joints: How many may move, hinges all.

    Returns:
        Whether the pose was found. Limits of joints are not looked at.

    Reference:
        ``qpos_from_site_pose`` of dm_control, whose constants these are.
    """
    mujoco, model = engine(), data.model
    which = model.site(site).id
    jacobian, error = np.zeros((6, model.nv)), np.zeros(6)
    for _ in range(_STEPS):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error[:3] = place - data.site_xpos[which]
        error[3:] = _turn(data.site_xmat[which], np.asarray(attitude, np.float64))
        left = float(np.linalg.norm(error[:3]) + _TURN * np.linalg.norm(error[3:]))
        if left < _TOLERANCE:
            return True
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], which)
        slope = jacobian[:, :joints]
        damping = (_DAMPING if left > _FAR else 0.0) * np.eye(joints)
        step = np.linalg.lstsq(slope.T @ slope + damping, slope.T @ error, rcond=-1)[0]
        length = float(np.linalg.norm(step))
        if left > _STUCK * length:
            return False
        data.qpos[:joints] += step * min(1.0, _LONGEST / length)
    return False


def _turn(matrix: Array, wanted: Array) -> Array:
    """Return the rotation vector ``[3]`` from a rotation matrix ``[9]`` to a quaternion ``[4]``."""
    mujoco = engine()
    now, back, between, turn = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(now, matrix)
    mujoco.mju_negQuat(back, now)
    mujoco.mju_mulQuat(between, wanted, back)
    mujoco.mju_quat2Vel(turn, between, 1.0)
    return turn
