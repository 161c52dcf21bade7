"""Jaco arm: bring the middle between its fingertips to a place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hindsight_rl.envs.robots.engine import Data, Model, engine, folder
from hindsight_rl.envs.robots.kinematics import frames, move_to
from hindsight_rl.envs.robots.world import Array, Floats, GoalWorld, Start, State

LOW, HIGH = (-0.2, -0.2, 0.02), (0.2, 0.2, 0.4)
"""Goals, and places of the tool in first states, are uniform between these, metres."""

_ARM, _ALL = 6, 9  # joints: of the arm, and with those of the fingers
_TOOL = "hand/pinchsite"
_DOWN = (0.0, np.sqrt(0.5), np.sqrt(0.5), 0.0)  # attitude of the tool in first states
_ATTEMPTS = 10  # poses from which the arm looks for a place
_BASE = (0.0, 0.4, 0.0)
# Gain, largest torque (N m) and speed (rad/s) of motors, as in dm_control.
_LARGE, _SMALL = (500.0, 30.5, np.deg2rad(36.0)), (500.0, 6.8, np.deg2rad(48.0))
_FINGER = (10.0, 1.0, 5.0)
_JOINTS = (*(f"joint_{i + 1}" for i in range(_ARM)), *(f"finger_{i + 1}" for i in range(3)))


class JacoReach(GoalWorld):
    """Bring the tool to a place. The task (``desired_goal``, ``[3]``) is where, metres.

    The arm, its movement and its first states are those of dm_control's ``reach_site_features``.
    ``achieved_goal`` is the place of the tool, between the fingertips. Observation ``[42]``: sines
    and cosines of six joints, positions of three fingers, nine velocities, torques at six joints
    (their signed log(1 + |torque|)), place and rotation matrix of the tool. Action ``[9]``: speeds
    of the joints, rad/s. Episodes start at rest, the tool anywhere and pointing down.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        ends: Reaching the goal terminates.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C, whose published code lacks this
        environment: its text names the arm, nine actions and 43 numbers seen, the last of which is
        a flag of the episode's last step.
    """

    substeps = 20
    task_low, task_high = LOW, HIGH
    observation_names = (
        *(f"{joint}_{part}" for part in ("sin", "cos") for joint in _JOINTS[:_ARM]),
        *(f"{finger}_position" for finger in _JOINTS[_ARM:]),
        *(f"{joint}_velocity" for joint in _JOINTS),
        *(f"{joint}_torque" for joint in _JOINTS[:_ARM]),
        *(f"tool_{axis}" for axis in "xyz"),
        *(f"tool_{row}{column}" for row in "xyz" for column in "xyz"),
    )
    achieved_names = ("tool_x", "tool_y", "tool_z")
    view, extent = (1, 2), 1.2
    skeleton = (
        ("b_base", *(f"b_{i + 1}" for i in range(_ARM)), "hand/hand"),
        *(("hand/hand", f"hand/b_finger_{i}", f"hand/b_finger_tip_{i}") for i in (1, 2, 3)),
    )

    def __init__(self, radius: float = 0.05, ends: bool = True) -> None:
        super().__init__(radius, ends)
        self.model = _model()
        self._mujoco = engine()
        self._data = self._mujoco.MjData(self.model)
        self._axes = self.model.jnt_axis[:_ARM].copy()
        self._limits = self.model.jnt_range.T.copy()
        self._limits[:, self.model.jnt_limited == 0] = [[0.0], [2 * np.pi]]
        self._hand = self.model.body("mount").id  # bodies from here on

    def start(self, generator: np.random.Generator) -> Start:
        """Return a pose in which the tool points down and the arm touches nothing, at rest."""
        data, (low, high) = self._data, self._limits
        while True:
            self._mujoco.mj_resetData(self.model, data)
            data.qpos[_ARM:] = low[_ARM:] + (high - low)[_ARM:] * generator.uniform()
            place = generator.uniform(LOW, HIGH)
            for _ in range(_ATTEMPTS):
                found = move_to(data, _TOOL, place, _DOWN, _ARM)
                data.qpos[:_ARM] = low[:_ARM] + (data.qpos - low)[:_ARM] % (2 * np.pi)
                if found and (data.qpos <= high).all() and self._is_free():
                    return data.qpos.copy(), np.zeros(_ALL)
                data.qpos[:_ARM] = generator.uniform(low[:_ARM], high[:_ARM])

    def observe(self, state: State) -> Array:
        """Return joints, torques and tool, ``[N, 42]``."""
        arm, fingers = np.ascontiguousarray(state.qpos[:, :_ARM]), state.qpos[:, _ARM:]
        twist = state.sensors.reshape(-1, _ARM, 3) * self._axes
        torque = twist[..., 0] + twist[..., 1] + twist[..., 2]
        places, turns = frames(self._data, "site", (_TOOL,), state.qpos)
        return np.concatenate(
            [np.sin(arm), np.cos(arm), fingers, state.qvel]
            + [np.sign(torque) * np.log1p(np.abs(torque)), places[:, 0], turns[:, 0]],
            axis=1,
        )

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the tool, ``[N, 3]``."""
        return frames(self._data, "site", (_TOOL,), state.qpos)[0][:, 0]

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the goal."""
        x, y, z = self.goal(task)
        return [((float(x), float(y), float(z)), max(self.radius, 0.02))]

    def centre(self, data: Data) -> Array:
        """Return a place between base and goals."""
        return np.array([0.0, 0.15, 0.4])

    def _is_free(self) -> bool:
        """Return whether no part of the arm touches, but for fingers that touch each other."""
        self._mujoco.mj_fwdPosition(self.model, self._data)
        bodies = self.model.geom_bodyid[self._data.contact.geom]
        touching = self._data.contact.dist <= 0
        return bool((bodies[touching].min(1) >= self._hand).all())


def _model() -> Model:
    """Return arm and hand with dm_control's motors, torque sensors and options, on the ground."""
    mujoco = engine()
    kinova = folder("dm_control") / "third_party" / "kinova"
    paths = (kinova / f"jaco_{part}.xml" for part in ("arm", "hand"))
    arm, hand = (mujoco.MjSpec.from_file(str(path)) for path in paths)
    for i, name in enumerate(_JOINTS[:_ARM]):
        joint = arm.joint(name)
        _add_motor(arm, name, *(_LARGE if i < 3 else _SMALL))
        joint.parent.add_site(name=f"{name}_site", size=[1e-3] * 3)
        sensor = arm.add_sensor(name=f"{name}_torque", type=mujoco.mjtSensor.mjSENS_TORQUE)
        sensor.objtype, sensor.objname = mujoco.mjtObj.mjOBJ_SITE, f"{name}_site"
    for name in _JOINTS[_ARM:]:
        _add_motor(hand, name, *_FINGER)
    # dm_control hangs the hand on a body of its own, which has the smallest mass of bodies.
    mount = arm.body("b_6").add_body(name="mount", quat=arm.site("wristsite").quat)
    arm.attach(hand, frame=mount.add_frame(), prefix="hand/")
    arm.compiler.boundmass, arm.compiler.boundinertia = 1e-5, 1e-11
    arm.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    arm.option.noslip_iterations, arm.option.noslip_tolerance = 5, 0.0
    arm.body("b_base").pos = _BASE
    arm.worldbody.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1.0, 1.0, 0.1),
        contype=1,
        conaffinity=1,
        friction=(0.4, 0.005, 0.0001),
        solimp=(0.95, 0.99, 0.001, 0.5, 2.0),
        solref=(0.002, 1.0),
    )
    return arm.compile()


def _add_motor(spec: Any, joint: str, gain: float, torque: float, speed: float) -> None:
    """Add a motor that holds the speed of a joint."""
    kind = engine().mjtTrn.mjTRN_JOINT
    motor = spec.add_actuator(name=joint, target=joint, trntype=kind)
    motor.set_to_velocity(kv=gain)
    motor.ctrllimited = motor.forcelimited = 1
    motor.ctrlrange, motor.forcerange = (-speed, speed), (-torque, torque)
