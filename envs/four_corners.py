"""Four corners: the world of four rooms with four discrete tasks, one goal in each room."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from hindsight_rl.envs.four_rooms import Floats, FourRooms, draw_far

CORNERS = np.array([[3, 3], [3, 30], [30, 3], [30, 30]], np.float32)
"""``[4, 2]``: the goals, in the middle of the 6 x 6 area at the outer corner of each room."""


class FourCorners(FourRooms):
    """Reach one of four goals. The task (``desired_goal``) is which, as a one-hot vector ``[4]``.

    All else is as in :class:`FourRooms`: ``achieved_goal`` is the position ``[2]``. The task is
    uniform, and the start uniform over the free space at least ``apart`` from its goal.
    ``reset(options={"goal": number})`` chooses the goal.
    """

    def task_space(self) -> spaces.Box:
        """Return the space of tasks."""
        return spaces.Box(0.0, 1.0, (len(CORNERS),), np.float32)

    def goal(self, task: ArrayLike) -> Floats:
        """Return the goal positions ``[..., 2]`` that tasks ``[..., 4]`` mean."""
        corners: Floats = CORNERS[np.argmax(task, axis=-1)]
        return corners

    def read_goal(self, goal: Any) -> Floats:
        """Return the task ``[4]`` that ``options["goal"]`` names.

        Args:
            goal: Number of the corner, 0 to 3.

        Returns:
            One-hot vector.

        Raises:
            ValueError: There is no such corner.
        """
        if goal not in range(len(CORNERS)):
            raise ValueError(f"goal is {goal}: it must be the number of a corner, 0 to 3")
        return _one_hot(goal)

    def draw(
        self, generator: np.random.Generator, start: Floats | None, task: Floats | None
    ) -> tuple[Floats, Floats]:
        """Return start ``[2]`` and task ``[4]``, each drawn unless it is given."""
        task = _one_hot(generator.integers(len(CORNERS))) if task is None else task
        return draw_far(generator, self.goal(task), self.apart) if start is None else start, task


def _one_hot(number: Any) -> Floats:
    vector: Floats = np.eye(len(CORNERS), dtype=np.float32)[number]
    return vector
