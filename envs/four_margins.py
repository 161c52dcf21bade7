"""Four rooms with margins: how close counts as reached is part of the task."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from hindsight_rl.envs.four_rooms import SIDE, Floats, FourRooms, read_position

MARGINS = (0.3, 3.0)
"""Smallest and largest margin."""


class FourMargins(FourRooms):
    """Reach a goal within a margin. The task (``desired_goal``) is ``[3]``: the goal, the margin.

    The margin is uniform in ``MARGINS``; all else is as in :class:`FourRooms`.
    ``reset(options={"goal": [i, j, margin]})`` chooses both.

    Args:
        **rooms: Arguments of :class:`FourRooms`, but for ``radius``.
    """

    def __init__(self, **rooms: Any) -> None:
        if "radius" in rooms:
            raise TypeError("FourMargins takes no radius: its tasks have margins")
        super().__init__(**rooms)

    def task_space(self) -> spaces.Box:
        """Return the space of tasks."""
        low, high = MARGINS
        return spaces.Box(
            np.array([0, 0, low], np.float32), np.array([SIDE, SIDE, high], np.float32)
        )

    def goal(self, task: ArrayLike) -> Floats:
        """Return the goal positions ``[..., 2]`` that tasks ``[..., 3]`` mean."""
        return np.asarray(task, np.float32)[..., :2]

    def margin(self, task: ArrayLike) -> Floats:
        """Return the margins ``[...]`` of tasks ``[..., 3]``."""
        return np.asarray(task, np.float32)[..., 2]

    def read_goal(self, goal: Any) -> Floats:
        """Return the task ``[3]`` that ``options["goal"]`` names.

        Args:
            goal: Position and margin.

        Returns:
            The task.

        Raises:
            ValueError: It is no free position, or the margin is out of range.
        """
        task = np.array(goal, np.float32)
        low, high = np.array(MARGINS, np.float32)
        if task.shape != (3,) or not low <= task[2] <= high:
            raise ValueError(
                f"goal is {goal!r}: it must be a position and a margin in {list(MARGINS)}"
            )
        read_position("goal", task[:2])
        return task

    def draw(
        self, generator: np.random.Generator, start: Floats | None, task: Floats | None
    ) -> tuple[Floats, Floats]:
        """Return start ``[2]`` and task ``[3]``, each drawn unless it is given."""
        place = None if task is None else task[:2]
        start, place = super().draw(generator, start, place)
        if task is None:
            task = np.append(place, np.float32(generator.uniform(*MARGINS)))
        return start, task
