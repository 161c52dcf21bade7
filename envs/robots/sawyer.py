"""Sawyer arm: bring the hand to a place in the air, as close as a radius or as the task says."""

from collections.abc import Sequence

import numpy as np

from hindsight_rl.envs.robots.engine import Data, engine, folder
from hindsight_rl.envs.robots.kinematics import frames
from hindsight_rl.envs.robots.world import Array, Floats, GoalWorld, Start, State

LOW, HIGH = (-0.1, 0.8, 0.05), (0.1, 0.9, 0.3)
"""Goals are uniform between ``LOW`` and ``HIGH``, metres."""
MARGINS = (0.0, 0.1)
"""Smallest and largest margin, metres."""

_REACH = np.array([[-0.5, 0.4, 0.05], [0.5, 1.0, 0.5]])  # of the hand, metres
_BEGIN, _DOWN = (0.0, 0.6, 0.2), (1.0, 0.0, 1.0, 0.0)  # place and attitude of the hand
_PULL = 0.01  # metres that an action of 1 moves the place to which the hand is pulled
_SETTLING = 50  # steps, as in Meta-World
_WELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0)  # Meta-World's, over its file's
_BLOCK = 9  # joint positions and velocities from here on are those of the block
_OPEN = 0.1  # metres between the fingers that count as 1


class SawyerReach(GoalWorld):
    """Bring the hand to a place. The task (``desired_goal``, ``[3]``) is where, metres.

    Physics and movement are those of ``reach-v3`` of Meta-World: a weld pulls the hand after a
    place that actions move. ``achieved_goal`` is the place of the hand. Observation ``[10]``: that
    place, how far the fingers are open (0 to 1), the place to which the hand is pulled, the place
    of a block that lies on the table and has no use. Action ``[4]`` in [-1, 1]: 1 moves the pull by
    1 cm along x, y, z; the last closes the fingers. Episodes start with the hand above the block.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        ends: Reaching the goal terminates.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C; Yu et al. 2019, arXiv 1910.10897.
    """

    substeps = 5
    task_low: Sequence[float] = LOW
    task_high: Sequence[float] = HIGH
    observation_names = ("hand_x", "hand_y", "hand_z", "open") + tuple(
        f"{part}_{axis}" for part in ("pull", "block") for axis in "xyz"
    )
    achieved_names = ("hand_x", "hand_y", "hand_z")
    view, extent = (1, 2), 1.2
    skeleton = (
        ("base", *(f"right_l{i}" for i in range(7)), "hand"),
        ("rightclaw", "hand", "leftclaw"),
        ("obj",),
    )

    def __init__(self, radius: float = 0.03, ends: bool = True) -> None:
        super().__init__(radius, ends)
        mujoco = engine()
        path = folder("metaworld") / "assets" / "sawyer_xyz" / "sawyer_reach_v3.xml"
        self.model = mujoco.MjModel.from_xml_path(str(path))
        self.model.eq_data[0] = _WELD
        pull = self.model.body("mocap")
        pull.pos[:], pull.quat[:] = _BEGIN, np.array(_DOWN) / np.linalg.norm(_DOWN)
        self._data = mujoco.MjData(self.model)
        self._start = self._settled()

    def start(self, generator: np.random.Generator) -> Start:
        """Return the same first state each time."""
        return self._start

    def action_bounds(self) -> tuple[Array, Array]:
        """Return -1 and 1."""
        return -np.ones(4), np.ones(4)

    def drive(self, action: Array, pulls: Array) -> tuple[Array, Array]:
        """Return what fingers get, and where the hand is pulled, ``[N, 2]`` and ``[N, 3]``."""
        grip = action[:, 3:]
        return np.concatenate([grip, -grip], 1), np.clip(pulls + _PULL * action[:, :3], *_REACH)

    def observe(self, state: State) -> Array:
        """Return hand, opening, pull and block, ``[N, 10]``."""
        found, _ = frames(self._data, "body", ("hand", "rightclaw", "leftclaw", "obj"), state.qpos)
        across = found[:, 1] - found[:, 2]
        apart = np.sqrt((across * across).sum(1, keepdims=True))
        opened = np.minimum(apart / _OPEN, 1.0)
        return np.concatenate([found[:, 0], opened, state.pulls, found[:, 3]], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the hand, ``[N, 3]``."""
        return frames(self._data, "body", ("hand",), state.qpos)[0][:, 0]

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the goal."""
        x, y, z = self.goal(task)
        return [((float(x), float(y), float(z)), max(float(self.margin(task)), 0.02))]

    def centre(self, data: Data) -> Array:
        """Return a place between base and goals."""
        return np.array([0.0, 0.45, 0.35])

    def _settled(self) -> Start:
        """Return the state in which the hand has followed its pull, the block at its place."""
        model, data, step = self.model, self._data, engine().mj_step
        data.ctrl[:] = -1.0, 1.0
        for _ in range(_SETTLING):
            step(model, data, nstep=self.substeps)
        qpos, qvel = data.qpos.copy(), data.qvel.copy()
        qpos[_BLOCK : _BLOCK + 3], qvel[_BLOCK:] = model.body("obj").pos, 0.0
        return qpos, qvel


class SawyerReachMargins(SawyerReach):
    """Bring the hand within a margin of a place. The task (``[4]``) is the place and the margin.

    Margins are uniform; all else is as in :class:`SawyerReach`.

    Args:
        margins: Smallest and largest margin, metres.
        ends: Reaching the goal terminates.

    Raises:
        ValueError: ``margins`` is no range.
    """

    def __init__(self, margins: Sequence[float] = MARGINS, ends: bool = True) -> None:
        super().__init__(ends=ends)
        if len(margins) != 2 or not 0 <= margins[0] < margins[1]:
            raise ValueError(f"margins is {margins}: give low and high, 0 <= low < high")
        self.task_low, self.task_high = (*LOW, margins[0]), (*HIGH, margins[1])

    def goal(self, task: Floats) -> Floats:
        """Return the places ``[..., 3]`` that tasks ``[..., 4]`` mean."""
        return task[..., :3]

    def margin(self, task: Floats) -> Floats:
        """Return the margins ``[...]`` of tasks ``[..., 4]``."""
        return task[..., 3]
