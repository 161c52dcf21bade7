"""Many robots that step together: MuJoCo steps all of them in one call, on several threads.

Seed for seed the episodes are those of :class:`RobotEnv`, number for number.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hindsight_rl.envs.resets import check_episodes, read_mode, read_reset
from hindsight_rl.envs.robots.engine import engine
from hindsight_rl.envs.robots.world import (
    BEGINNING,
    Array,
    Floats,
    Observation,
    State,
    check_time,
    open_world,
    parts,
)

Step = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class RobotVectorEnv(VectorEnv[Observation, Floats, NDArray[Any]]):
    """Several robots of one world.

    ``reset`` takes one seed per environment, or one for all (environment i gets ``seed + i``), and
    ``options`` as the single environment does, with ``reset_mask`` ``[n]`` bool for those to reset.

    Args:
        world: Module and class of the world, as the registration names it.
        max_episode_steps: Steps after which an episode is cut.
        num_envs: How many, at least 1.
        autoreset_mode: Whether an episode's end is followed by a reset in the next step
            (``"NextStep"``), or the caller resets (``"Disabled"``).
        threads: That step them; ``None`` takes as many as there are cores for this process. The
            numbers do not depend on it.
        **settings: Arguments of the world.

    Attributes:
        world: The world.
    """

    def __init__(
        self,
        world: str,
        max_episode_steps: int,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        mode = read_mode(num_envs, autoreset_mode)
        self.world = open_world(world, settings)
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.render_mode = None
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.single_observation_space = self.world.observation_space()
        self.single_action_space = self.world.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._physics = _Physics(self.world.model, self.world.substeps, num_envs, threads)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._task = np.zeros((num_envs, len(self.world.task_low)), np.float32)
        self._still = np.zeros((num_envs, len(self.world.action_bounds()[0])))
        self._step = np.zeros(num_envs, np.intp)
        self._over = np.ones(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observations of new episodes.

        Args:
            seed: One for all, or one per environment; ``None`` goes on with the present generator.
            options: See the class.

        Returns:
            Observations of all environments, and an empty dictionary. ``achieved_goal`` of an
            environment that was not reset says nothing of its last action.
        """
        asked = read_reset(self.num_envs, seed, options)
        task = self.world.read_task(asked.options)
        for i in asked.chosen:
            self._begin(i, asked.seeds[i], task)
        return self._observe(self._still), {}

    def step(self, actions: Floats) -> Step:
        """Take one step in every environment.

        Args:
            actions: ``[n, A]``; that of an environment to be reset is ignored.

        Returns:
            Observations, rewards, terminated, truncated, and ``is_success`` in the info where the
            task can be fulfilled. A simulation that diverges is a ``RuntimeError``.
        """
        over = self._over.copy()
        check_episodes(over, self.metadata["autoreset_mode"])
        taken = self.world.controls(np.where(over[:, None], 0.0, actions))
        self._physics.step(*self.world.drive(taken, self._physics.pulls))
        self._step += 1
        for i in np.flatnonzero(over):
            self._begin(int(i), None, None)
        seen = self._observe(taken)
        success = self.world.success(seen["achieved_goal"], self._task) & ~over
        terminated = success & self.world.ends
        truncated = (self._step >= self.max_episode_steps) & ~over
        self._over = terminated | truncated
        reward = self.world.reward(seen["achieved_goal"], self._task).astype(np.float64)
        info = {"is_success": success, "_is_success": ~over} if self.world.has_success else {}
        return seen, np.where(over, 0.0, reward), terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        self._physics.close()

    def _begin(self, i: int, seed: int | None, task: Floats | None) -> None:
        """Start an episode in one environment."""
        generator = self._generators[i]
        if generator is None or seed is not None:
            generator, _ = seeding.np_random(seed)
            self._generators[i] = generator
        self._physics.put(i, *self.world.start(generator))
        drawn = self.world.sample_task(generator).astype(np.float32)
        self._task[i] = drawn if task is None else task
        self._step[i], self._over[i] = 0, False

    def _observe(self, action: Array) -> Observation:
        return parts(self.world, self._physics.state(), action, self._task)


class _Physics:
    """Physical states of many worlds of one model, and the pool of threads that steps them."""

    def __init__(self, model: Any, substeps: int, count: int, threads: int | None) -> None:
        mujoco = engine()
        self._mujoco, self._model, self._substeps, self._count = mujoco, model, substeps, count
        self._kind = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
        size = mujoco.mj_stateSize(model, self._kind)
        self._nq, self._nv = model.nq, model.nv
        if size != 1 + model.nq + model.nv + model.na:  # time first, then what State holds
            raise ValueError(f"a state of {size} numbers holds more than joints and actuators")
        cores = len(os.sched_getaffinity(0)) if threads is None else threads
        workers = 0 if cores == 1 else min(cores, count)
        self._pool = engine("mujoco.rollout").Rollout(nthread=workers)
        self._datas = [mujoco.MjData(model) for _ in range(max(1, workers))]
        self._scratch = mujoco.MjData(model)
        self._chunk = max(1, count // (4 * len(self._datas)))
        self._models = [model] * count
        self._now = np.zeros((count, size))
        self._sensors = np.zeros((count, model.nsensordata))
        self._states = np.zeros((count, substeps, size))
        self._sensed = np.zeros((count, substeps, model.nsensordata))
        # What rollout takes for each physics step: actuators first, then places of pulling bodies.
        self._control = np.zeros((count, substeps, model.nu + 3 * model.nmocap))
        kinds = mujoco.mjtState.mjSTATE_CTRL, mujoco.mjtState.mjSTATE_MOCAP_POS
        self._given = kinds[0].value | kinds[1].value
        self.pulls = np.zeros((count, 3 * model.nmocap))
        self._warm = np.zeros((count, model.nv))

    def put(self, i: int, qpos: Array, qvel: Array) -> None:
        """Set one world to a first state."""
        model, data = self._model, self._scratch
        self._mujoco.mj_resetData(model, data)
        data.time = BEGINNING
        data.qpos[:], data.qvel[:] = qpos, qvel
        self._mujoco.mj_forward(model, data)
        self._mujoco.mj_getState(model, data, self._now[i], self._kind)
        self._sensors[i], self.pulls[i] = data.sensordata, data.mocap_pos.ravel()

    def step(self, control: Array, pulls: Array) -> None:
        """Step all worlds, without a warm start of the solver.

        Args:
            control: ``[N, nu]``, for the actuators.
            pulls: ``[N, 3 M]``, where the pulling bodies go.
        """
        self.pulls = pulls
        self._control[:] = np.concatenate([control, pulls], axis=1)[:, None]
        self._pool.rollout(
            self._models,
            self._datas,
            self._now,
            self._control,
            control_spec=self._given,
            skip_checks=True,
            nstep=self._substeps,
            initial_warmstart=self._warm,
            state=self._states,
            sensordata=self._sensed,
            chunk_size=self._chunk,
        )
        check_time(self._model, self._substeps, self._now[:, 0], self._states[:, -1, 0])
        self._now[:], self._sensors[:] = self._states[:, -1], self._sensed[:, -1]

    def state(self) -> State:
        """Return the states of all worlds."""
        qpos, qvel, act = np.split(self._now[:, 1:], [self._nq, self._nq + self._nv], axis=1)
        return State(qpos.copy(), qvel.copy(), act.copy(), self._sensors, self.pulls)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()
