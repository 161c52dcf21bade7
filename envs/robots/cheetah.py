"""Half-cheetah: a task is the speed to run at."""

import numpy as np

from hindsight_rl.envs.robots.engine import engine, suite_model
from hindsight_rl.envs.robots.world import Array, Floats, Start, State, World

FASTEST = 3.0
EFFORT = 0.05
"""Price of the squared length of an action."""

_JOINTS = ("x", "z", "y", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
_SETTLING = 200  # physics steps, as in dm_control


class HalfCheetah(World):
    """Run at a given speed. The task (``desired_goal``, ``[1]``) is uniform in [0, 3] m/s.

    Reward: minus the difference of the speeds, minus 0.05 times the squared length of the action.
    Both are in ``achieved_goal`` ``[2]``. Observation ``[17]``: height, angles of the torso and six
    joints; nine velocities. Action ``[6]``: torques in [-1, 1]. Joints begin at random, the body
    falls for two seconds, then the episode starts; none ends.

    Args:
        pool: Draw first states from so many that fell when the environment was made; 0 lets the
            body fall before every episode, which takes twice as long as an episode of 100 steps.

    Raises:
        ValueError: ``pool`` is negative.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C.
    """

    task_low, task_high = (0.0,), (FASTEST,)
    observation_names = (
        *(f"{joint}_position" for joint in _JOINTS[1:]),
        *(f"{joint}_velocity" for joint in _JOINTS),
    )
    achieved_names = ("speed", "effort")

    def __init__(self, pool: int = 0) -> None:
        if pool < 0:
            raise ValueError(f"pool is {pool}: it must not be negative")
        self.model = suite_model("cheetah")
        self._mujoco = engine()
        self._data = self._mujoco.MjData(self.model)
        generator = np.random.default_rng(0)
        self._pool = [self._fallen(generator) for _ in range(pool)]

    def start(self, generator: np.random.Generator) -> Start:
        """Return a state in which the body has fallen."""
        if self._pool:
            return self._pool[generator.integers(len(self._pool))]
        return self._fallen(generator)

    def observe(self, state: State) -> Array:
        """Return positions but for the way run, and velocities, ``[N, 17]``."""
        return np.concatenate([state.qpos[:, 1:], state.qvel], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return speed and effort, ``[N, 2]``."""
        effort = (action * action).sum(1, keepdims=True)
        return np.concatenate([state.qvel[:, :1], effort], axis=1)

    def reward(self, achieved: Floats, task: Floats) -> Floats:
        """Return minus the difference of the speeds, minus the price of the effort."""
        off = np.abs(achieved[..., 0] - task[..., 0])
        reward: Floats = -off - np.float32(EFFORT) * achieved[..., 1]
        return reward

    def _fallen(self, generator: np.random.Generator) -> Start:
        model, data = self.model, self._data
        self._mujoco.mj_resetData(model, data)
        limited = model.jnt_limited == 1  # the root's joints have no limits, and one number each
        data.qpos[limited] = generator.uniform(*model.jnt_range[limited].T)
        self._mujoco.mj_step(model, data, nstep=_SETTLING)
        return data.qpos.copy(), data.qvel.copy()
