"""The crossing: two ways that share one cell, the smallest case for inferring intentions.

A grid of three rows and five columns with nine open cells::

    A a . u B      row 0
    . . X . .      row 1
    C c . d D      row 2

Each move goes one column to the right; the action chooses the row. Two trajectories A a X u B and
C c X d D show every transition. Labelled with the cells where they end they say nothing of the ways
from A to D and from C to B; labelled with both goals up to X they do (figure 4 of Eysenbach et al.
2020, arXiv 2002.11089).
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.drawing import Canvas

Floats = NDArray[np.float32]
Observation = dict[str, Floats]

CELLS = {
    "A": (0, 0),
    "a": (0, 1),
    "X": (1, 2),
    "u": (0, 3),
    "B": (0, 4),
    "C": (2, 0),
    "c": (2, 1),
    "d": (2, 3),
    "D": (2, 4),
}
"""Row and column of each open cell; state k is the k-th of them."""
STARTS, GOALS = ("A", "C"), ("B", "D")
UP, STRAIGHT, DOWN = 0, 1, 2
TRAJECTORIES = {
    ("A", "B"): (STRAIGHT, DOWN, UP, STRAIGHT),
    ("C", "D"): (STRAIGHT, UP, DOWN, STRAIGHT),
}
"""The actions of the two trajectories, by start and goal."""

_WALLS = np.ones((3, 5), np.bool_)
_WALLS[tuple(zip(*CELLS.values(), strict=True))] = False
_STATE = {cell: state for state, cell in enumerate(CELLS.values())}


class Crossing(gymnasium.Env[Any, Any]):
    """Reach a cell. The task (``desired_goal``) is its row and column.

    Observation: the state, one-hot ``[9]`` in the order of ``CELLS``; ``achieved_goal`` is its row
    and column ``[2]``. Actions: 0 up, 1 straight, 2 down; the cell one column to the right and one
    row up, none or one down is entered if it is open, else one stays. Reward: 0 for the step that
    leads to the goal, which ends the episode, else -1. Starts A and C and goals B and D are
    equally likely; ``reset(options={"start": "A", "goal": "D"})`` chooses.

    Args:
        render_mode: ``"rgb_array"`` or ``None``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        cells = spaces.Box(np.array([0, 0], np.float32), np.array([2, 4], np.float32))
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(0.0, 1.0, (len(CELLS),), np.float32),
                "achieved_goal": cells,
                "desired_goal": cells,
            }
        )
        self.action_space = spaces.Discrete(3)
        self._cell = self._goal = (0, 0)
        self._trail: list[tuple[int, int]] = []

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode.

        Args:
            seed: Seed of the environment's generator; ``None`` goes on with the present one.
            options: ``start`` and ``goal``, names of cells.

        Returns:
            Observation, and an empty dictionary.

        Raises:
            ValueError: An option is unknown, or no cell has the name.
        """
        super().reset(seed=seed)
        names = {"start": STARTS[self.np_random.integers(2)]}
        names |= {"goal": GOALS[self.np_random.integers(2)]} | dict(options or {})
        if set(names) > {"start", "goal"} or not set(names.values()) <= set(CELLS):
            raise ValueError(
                f"options is {options}: it may hold 'start' and 'goal', each one of "
                f"{', '.join(CELLS)}"
            )
        self._cell, self._goal = CELLS[names["start"]], CELLS[names["goal"]]
        self._trail = [self._cell]
        return self._observe(), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: 0, 1 or 2.

        Returns:
            Observation, reward, whether the goal was reached, False, and ``is_success``.

        Raises:
            ValueError: There is no such action.
        """
        if action not in (UP, STRAIGHT, DOWN):
            raise ValueError(f"action is {action}: it must be 0 (up), 1 (straight) or 2 (down)")
        ahead = (self._cell[0] + int(action) - 1, self._cell[1] + 1)
        self._cell = ahead if ahead in _STATE else self._cell
        self._trail.append(self._cell)
        reached = self._cell == self._goal
        return self._observe(), float(reached) - 1.0, reached, False, {"is_success": reached}

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps that led to ``achieved_goal``.

        Args:
            achieved_goal: ``[..., 2]``.
            desired_goal: ``[..., 2]``.
            info: Not used.

        Returns:
            ``[...]`` float32.
        """
        reached = self.compute_terminated(achieved_goal, desired_goal, info)
        return reached.astype(np.float32) - np.float32(1)

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> NDArray[np.bool_]:
        """Return whether steps that led to ``achieved_goal`` end the episode.

        Args:
            achieved_goal: ``[..., 2]``.
            desired_goal: ``[..., 2]``.
            info: Not used.

        Returns:
            ``[...]`` bool.
        """
        reached: NDArray[np.bool_] = np.all(np.equal(achieved_goal, desired_goal), axis=-1)
        return reached

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture ``[280, 392, 3]``."""
        if self.render_mode is None:
            return None
        canvas = Canvas.of_cells(_WALLS, scale=56, rim=1)
        path = np.array(self._trail) + 0.5
        canvas.disc(np.add(self._goal, 0.5), 0.4, "goal")
        canvas.disc(path[0], 0.25, "start")
        canvas.line(list(path), "trail", thickness=5)
        canvas.disc(path[-1], 0.2, "agent")
        return canvas.pixels

    def _observe(self) -> Observation:
        cell, goal = np.array(self._cell, np.float32), np.array(self._goal, np.float32)
        state = np.zeros(len(CELLS), np.float32)
        state[_STATE[self._cell]] = 1
        return {"observation": state, "achieved_goal": cell, "desired_goal": goal}
