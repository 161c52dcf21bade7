"""Many four-rooms environments in one: a step of all of them is one look-up.

Seed for seed the episodes are those of the single environments in ``gymnasium.vector``'s
``SyncVectorEnv``, the ones after an automatic reset included.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hindsight_rl.envs.four_corners import FourCorners
from hindsight_rl.envs.four_margins import FourMargins
from hindsight_rl.envs.four_rooms import HORIZON, Floats, FourRooms, Observation, step_many
from hindsight_rl.envs.resets import check_episodes, read_mode, read_reset

Array = NDArray[Any]
Step = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class FourRoomsVectorEnv(VectorEnv[Observation, Floats, Array]):
    """Several :class:`FourRooms` at once.

    ``reset`` takes one seed per environment, or one for all (environment i gets ``seed + i``), and
    ``options`` as the single environment does, with ``reset_mask`` ``[n]`` bool for those to reset.

    Args:
        num_envs: How many, at least 1.
        max_episode_steps: Steps after which an episode is cut.
        autoreset_mode: Whether an episode's end is followed by a reset in the next step
            (``"NextStep"``), or the caller resets (``"Disabled"``).
        **single: Arguments of :class:`FourRooms`.
    """

    kind: ClassVar[type[FourRooms]] = FourRooms

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = HORIZON,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **single: Any,
    ) -> None:
        mode = read_mode(num_envs, autoreset_mode)
        self.single = self.kind(**single)
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.render_mode = None
        self.metadata = {**self.single.metadata, "autoreset_mode": mode}
        self.single_observation_space = self.single.observation_space
        self.single_action_space = self.single.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        tasks = self.single.task_space().shape[0]
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._position = np.zeros((num_envs, 2), np.float32)
        self._task = np.zeros((num_envs, tasks), np.float32)
        self._noise = np.zeros((num_envs, HORIZON))
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
            Observations of all environments, and an empty dictionary.
        """
        asked = read_reset(self.num_envs, seed, options)
        for i in asked.chosen:
            self._begin(i, asked.seeds[i], asked.options)
        return self._observe(), {}

    def step(self, actions: Floats) -> Step:
        """Take one step in every environment.

        Args:
            actions: ``[n, 2]``, wanted velocities; that of an environment to be reset is ignored.

        Returns:
            Observations, rewards, terminated, truncated, and ``is_success`` in the info.
        """
        over = self._over.copy()
        check_episodes(over, self.metadata["autoreset_mode"])
        for i in np.flatnonzero(~over & (self._step > 0) & (self._step % HORIZON == 0)):
            self._noise[i] = self.single.draw_noise(self._generator(int(i), None))
        noise = self._noise[np.arange(self.num_envs), self._step % HORIZON]
        moved = step_many(self._position, actions, noise)
        self._position = np.where(over[:, None], self._position, moved)
        self._step += 1
        for i in np.flatnonzero(over):
            self._begin(int(i), None, {})
        reached = self.single.is_reached(self._position, self._task) & ~over
        terminated = reached & self.single.ends
        truncated = (self._step >= self.max_episode_steps) & ~over
        self._over = terminated | truncated
        reward = np.where(over, 0.0, reached - 1.0)
        info = {"is_success": reached, "_is_success": ~over}
        return self._observe(), reward, terminated, truncated, info

    def _generator(self, i: int, seed: int | None) -> np.random.Generator:
        generator = self._generators[i]
        if generator is None or seed is not None:
            generator, _ = seeding.np_random(seed)
            self._generators[i] = generator
        return generator

    def _begin(self, i: int, seed: int | None, options: dict[str, Any]) -> None:
        """Start an episode in one environment."""
        generator = self._generator(i, seed)
        self._position[i], self._task[i] = self.single.begin(generator, options)
        self._noise[i] = self.single.draw_noise(generator)
        self._step[i], self._over[i] = 0, False

    def _observe(self) -> Observation:
        return {
            "observation": self._position.copy(),
            "achieved_goal": self._position.copy(),
            "desired_goal": self._task.copy(),
        }


class FourCornersVectorEnv(FourRoomsVectorEnv):
    """Several :class:`FourCorners` at once."""

    kind = FourCorners


class FourMarginsVectorEnv(FourRoomsVectorEnv):
    """Several :class:`FourMargins` at once."""

    kind = FourMargins
