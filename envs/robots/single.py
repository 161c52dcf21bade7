"""One robot, as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.robots.engine import engine
from hindsight_rl.envs.robots.picture import picture
from hindsight_rl.envs.robots.world import (
    BEGINNING,
    Array,
    Flags,
    Floats,
    Observation,
    Start,
    State,
    check_time,
    open_world,
    parts,
)


class RobotEnv(gymnasium.Env[Any, Any]):
    """Play one world: observation, what was achieved and task, float32.

    The solver's warm start is forgotten before each step, so that a step depends on the state
    alone. ``reset(options={"task": [Z]})`` chooses the task.

    Args:
        world: Module and class of the world, as the registration names it.
        render_mode: ``"rgb_array"`` or ``None``.
        **settings: Arguments of the world.

    Attributes:
        world: The world.
        data: MuJoCo's data, for a viewer or a renderer of your own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 40}

    def __init__(self, world: str, render_mode: str | None = None, **settings: Any) -> None:
        self._mujoco = engine()
        self.world = open_world(world, settings)
        self.render_mode = render_mode
        self.data = self._mujoco.MjData(self.world.model)
        self.observation_space = self.world.observation_space()
        self.action_space = self.world.action_space()
        rate = 1 / (self.world.substeps * self.world.model.opt.timestep)
        self.metadata = {**self.metadata, "render_fps": round(rate)}
        self._still = np.zeros((1, len(self.world.action_bounds()[0])))
        self._task = np.zeros(len(self.world.task_low), np.float32)

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Names of the numbers of ``observation``."""
        return self.world.observation_names

    @property
    def achieved_names(self) -> tuple[str, ...]:
        """Names of the numbers of ``achieved_goal``."""
        return self.world.achieved_names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode.

        Args:
            seed: Seed of the environment's generator; ``None`` goes on with the present one.
            options: ``task`` ``[Z]``.

        Returns:
            Observation, and an empty dictionary.
        """
        super().reset(seed=seed)
        given = self.world.read_task(options)
        self._begin(self.world.start(self.np_random))
        task = self.world.sample_task(self.np_random).astype(np.float32)
        self._task = task if given is None else given
        return self._observe(self._still), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: ``[A]``, clipped to its space.

        Returns:
            Observation, reward, whether success ended the episode, False, and ``is_success`` where
            the task can be fulfilled. A simulation that diverges is a ``RuntimeError``.
        """
        world, data = self.world, self.data
        taken = world.controls(np.asarray(action)[None])
        control, pulls = world.drive(taken, self._pulls())
        data.ctrl[:], data.mocap_pos[:] = control[0], pulls.reshape(-1, 3)
        data.qacc_warmstart[:] = 0
        before = data.time
        self._mujoco.mj_step(world.model, data, nstep=world.substeps)
        check_time(world.model, world.substeps, np.array([before]), np.array([data.time]))
        seen = self._observe(taken)
        got, task = seen["achieved_goal"][None], self._task[None]
        reward = float(world.reward(got, task)[0])
        success = bool(world.success(got, task)[0])
        info = {"is_success": success} if world.has_success else {}
        return seen, reward, success and world.ends, False, info

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps that achieved ``achieved_goal``.

        Args:
            achieved_goal: ``[..., G]``.
            desired_goal: ``[..., Z]``, tasks.
            info: Not used.

        Returns:
            ``[...]`` float32.
        """
        achieved, task = (np.asarray(x, np.float32) for x in (achieved_goal, desired_goal))
        return self.world.reward(achieved, task)

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Flags:
        """Return whether steps that achieved ``achieved_goal`` end the episode.

        Args:
            achieved_goal: ``[..., G]``.
            desired_goal: ``[..., Z]``, tasks.
            info: Not used.

        Returns:
            ``[...]`` bool.
        """
        achieved, task = (np.asarray(x, np.float32) for x in (achieved_goal, desired_goal))
        return self.world.success(achieved, task) & self.world.ends

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture ``[360, 480, 3]``: near parts red, far ones blue, the goal green."""
        return None if self.render_mode is None else picture(self.world, self.data, self._task)

    def _begin(self, start: Start) -> None:
        self._mujoco.mj_resetData(self.world.model, self.data)
        self.data.time = BEGINNING
        self.data.qpos[:], self.data.qvel[:] = start
        self._mujoco.mj_forward(self.world.model, self.data)

    def _pulls(self) -> Array:
        pulls: Array = self.data.mocap_pos.reshape(1, -1)
        return pulls

    def _observe(self, action: Array) -> Observation:
        data = self.data
        qpos, qvel, act, sensors = (
            part[None] for part in (data.qpos, data.qvel, data.act, data.sensordata)
        )
        state = State(qpos, qvel, act, sensors, self._pulls())
        seen = parts(self.world, state, action, self._task[None])
        return {name: part[0] for name, part in seen.items()}
