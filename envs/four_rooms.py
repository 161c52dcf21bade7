"""Four rooms: walk to a goal through doors, pushed about by noise (2-D, continuous).

The world of Eysenbach et al., "Rewriting history with inverse RL", 2020 (arXiv 2002.11089), as its
published code moves: an 11 x 11 grid of walls, each cell 3 units wide, actions that are clipped
velocities, one number of noise for both axes, ten substeps per step and each axis blocked by walls
on its own. Start and goal are uniform over free space and far apart, reward and termination are
judged on the state after the step, and the observation is the plain position.
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

_PLAN = """
00000100000
00000100000
00000000000
00000100000
00000100000
10111100000
00000111011
00000100000
00000100000
00000000000
00000100000
"""
WALLS = np.kron(
    [[mark == "1" for mark in row] for row in _PLAN.split()], np.ones((3, 3), np.bool_)
).astype(np.bool_)
"""``[33, 33]`` bool: cell (i, j) covers positions [i, i + 1) x [j, j + 1); outside all is wall."""
SIDE = len(WALLS)
HORIZON = 75

_SUBSTEPS = 10
_OPEN = np.pad(~WALLS, 1)
_FREE_CELLS = np.argwhere(~WALLS)


def is_free(position: ArrayLike) -> NDArray[np.bool_]:
    """Return whether positions ``[..., 2]`` are inside the world and not in a wall, ``[...]``."""
    cell = np.clip(np.floor(position), -1, SIDE).astype(np.intp) + 1
    free: NDArray[np.bool_] = _OPEN[cell[..., 0], cell[..., 1]]
    return free


def step_many(position: ArrayLike, action: ArrayLike, noise: ArrayLike) -> Floats:
    """Return where one step leads.

    The noise is added to both axes, and the sum clipped to [-1, 1] is the velocity of a step of
    duration 1. In each of ten substeps first i, then j moves on, unless that leads into a wall.

    Args:
        position: ``[n, 2]``, free positions (i, j).
        action: ``[n, 2]``, wanted velocity, in units per step.
        noise: ``[n]``.

    Returns:
        ``[n, 2]`` float32, free positions.
    """
    start = np.asarray(position, np.float64)
    wanted = np.add(action, np.asarray(noise)[..., None])
    move = np.minimum(np.maximum(wanted, -1.0), 1.0) / _SUBSTEPS
    cell, ahead = np.floor(start), np.sign(move)
    path = start[..., None] + move[..., None] * _COUNTS
    inside = np.add.reduce(np.floor(path) == cell[..., None], axis=-1)
    around = _AROUND.take((cell @ _CELL + ahead @ _AHEAD + 4).astype(np.intp))
    taken = _TAKEN.take(inside @ _INSIDE + around, axis=0)
    return _within((start + taken * move).astype(np.float32), cell + ahead * (taken > inside))


def _substeps_taken(inside_i: int, inside_j: int, open_i: int, open_j: int, open_both: int) -> Any:
    """Return how many substeps each axis takes in one step.

    A step is at most one unit long, so each axis can leave its cell once, and nothing else matters
    than when it would and which of the three cells ahead are open.

    Args:
        inside_i: Substeps that i can take within its cell, 0 to 10; ``inside_j`` likewise.
        inside_j: See ``inside_i``.
        open_i: Whether the next cell along i is open; ``open_j`` likewise.
        open_j: See ``open_i``.
        open_both: Whether the next cell along both is.

    Returns:
        The two numbers.
    """
    i = j = 0
    for _ in range(_SUBSTEPS):
        if i < inside_i or (open_both if j > inside_j else open_i):
            i += 1
        if j < inside_j or (open_both if i > inside_i else open_j):
            j += 1
    return i, j


def _open_around() -> NDArray[np.intp]:
    """Return for each cell and direction which of the three cells ahead are open, as a number."""
    ahead = [slice(1 + d, SIDE + 1 + d) for d in (-1, 0, 1)]
    here = ahead[1]
    cases = [
        4 * _OPEN[i, here] + 2 * _OPEN[here, j] + 1 * _OPEN[i, j] for i in ahead for j in ahead
    ]
    return np.stack(cases, axis=-1).ravel()


# All cases of a step are played once (968 of them), so that a step of many positions is two
# look-ups: which cells ahead are open, then how many substeps are taken. The three vectors number
# the rows of the tables; the centre of the nine directions is number 4.
_COUNTS = np.arange(1, _SUBSTEPS + 1)
_AROUND = _open_around()
_CELL, _AHEAD = np.array([9.0 * SIDE, 9.0]), np.array([3.0, 1.0])
_CASES = (_SUBSTEPS + 1, _SUBSTEPS + 1, 2, 2, 2)
_TAKEN = np.array([_substeps_taken(*case) for case in np.ndindex(_CASES)])
_INSIDE = np.array([8 * (_SUBSTEPS + 1), 8])


def _within(position: Floats, cell: NDArray[Any]) -> Floats:
    """Return positions that rounding has not carried over the edge of their cell."""
    low = cell.astype(np.float32)
    high = np.nextafter(low + np.float32(1), np.float32(0))
    inside: Floats = np.minimum(np.maximum(position, low), high)
    return inside


def draw_position(generator: np.random.Generator) -> Floats:
    """Return one position ``[2]``, uniform over free space."""
    position: Floats = _draw(generator, 1)[0]
    return position


def draw_far(generator: np.random.Generator, other: Floats, apart: float) -> Floats:
    """Return one position ``[2]``, uniform over the free space at least so far from another."""
    while True:
        positions = _draw(generator, 8)
        offset = positions - other
        far = np.flatnonzero((offset * offset).sum(-1) >= apart * apart)
        if len(far):
            position: Floats = positions[far[0]].copy()
            return position


def _draw(generator: np.random.Generator, count: int) -> Floats:
    cell = _FREE_CELLS[generator.integers(len(_FREE_CELLS), size=count)]
    return _within((cell + generator.random((count, 2))).astype(np.float32), cell)


def read_position(name: str, value: ArrayLike) -> Floats:
    """Return a position given from outside.

    Args:
        name: What it is, for the message.
        value: ``[2]``.

    Returns:
        ``[2]`` float32.

    Raises:
        ValueError: It is no free position.
    """
    position = np.array(value, np.float32)
    if position.shape != (2,) or not np.isfinite(position).all() or not is_free(position):
        raise ValueError(
            f"{name} is {value!r}: it must be a position [2] inside [0, {SIDE}) that is not in a "
            "wall (see hindsight_rl.envs.four_rooms.is_free)"
        )
    return position


class FourRooms(gymnasium.Env[Any, Any]):
    """Reach a goal position. The task (``desired_goal``) is the goal, in the same units.

    Observation: the position ``[2]``, which also is ``achieved_goal``. Action: velocity ``[2]`` in
    [-1, 1]. Reward: 0 at or within ``radius`` of the goal, else -1. ``reset(options={"start": ...,
    "goal": ...})`` puts either where it is wanted.

    Args:
        radius: Distance that counts as reached, above 0.
        noise: Standard deviation of the noise, not negative.
        apart: Smallest distance between start and goal, in [0, 20].
        ends: Reaching the goal terminates. False for logs without a task, in which an end would
            give away the goal.
        render_mode: ``"rgb_array"`` or ``None``.

    Raises:
        ValueError: A number is out of range.
    """

    metadata = {
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "expert": "hindsight_rl.envs.paths:shortest_path",
    }

    def __init__(
        self,
        radius: float = 1.0,
        noise: float = 1.0,
        apart: float = 15.0,
        ends: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if not (radius > 0 and noise >= 0 and 0 <= apart <= 20):
            raise ValueError(
                f"radius is {radius}, noise {noise} and apart {apart}: radius must be above 0, "
                "noise at least 0, and apart lie in [0, 20]"
            )
        self.radius, self.noise, self.apart, self.ends = radius, noise, apart, ends
        self.render_mode = render_mode
        where = spaces.Box(0.0, SIDE, (2,), np.float32)
        self.observation_space = spaces.Dict(
            {"observation": where, "achieved_goal": where, "desired_goal": self.task_space()}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._position = self._task = np.zeros(2, np.float32)
        self._noise, self._step = np.zeros(HORIZON), 0
        self._trail: list[Floats] = []

    def task_space(self) -> spaces.Box:
        """Return the space of tasks."""
        return spaces.Box(0.0, SIDE, (2,), np.float32)

    def goal(self, task: ArrayLike) -> Floats:
        """Return the goal positions ``[..., 2]`` that tasks ``[..., Z]`` mean."""
        return np.asarray(task, np.float32)

    def margin(self, task: ArrayLike) -> Floats:
        """Return the distances ``[...]`` that count as reached for tasks ``[..., Z]``."""
        return np.asarray(self.radius, np.float32)

    def read_goal(self, goal: Any) -> Floats:
        """Return the task ``[Z]`` that ``options["goal"]`` names."""
        return read_position("goal", goal)

    def draw(
        self, generator: np.random.Generator, start: Floats | None, task: Floats | None
    ) -> tuple[Floats, Floats]:
        """Return start ``[2]`` and task ``[Z]``, each drawn unless it is given."""
        start = draw_position(generator) if start is None else start
        return start, draw_far(generator, start, self.apart) if task is None else task

    def begin(
        self, generator: np.random.Generator, options: Mapping[str, Any] | None = None
    ) -> tuple[Floats, Floats]:
        """Return start ``[2]`` and task ``[Z]`` of a new episode.

        Args:
            generator: What is not given is drawn from it.
            options: ``start`` and ``goal``; either may be left out.

        Returns:
            Start and task.

        Raises:
            ValueError: An option is unknown, or a position is not free.
        """
        options = options or {}
        if unknown := set(options) - {"start", "goal"}:
            raise ValueError(f"options has {sorted(unknown)}; known are 'start' and 'goal'")
        start = read_position("start", options["start"]) if "start" in options else None
        task = self.read_goal(options["goal"]) if "goal" in options else None
        return self.draw(generator, start, task)

    def draw_noise(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return the noise of the next ``HORIZON`` steps."""
        return self.noise * generator.standard_normal(HORIZON)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode.

        Args:
            seed: Seed of the environment's generator; ``None`` goes on with the present one.
            options: See :meth:`begin`.

        Returns:
            Observation, and an empty dictionary.
        """
        super().reset(seed=seed)
        self._position, self._task = self.begin(self.np_random, options)
        self._noise, self._step = self.draw_noise(self.np_random), 0
        self._trail = [self._position]
        return self._observe(), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: ``[2]``, wanted velocity.

        Returns:
            Observation, reward, whether the goal ended the episode, False, and ``is_success``.
        """
        if self._step == HORIZON:
            self._noise, self._step = self.draw_noise(self.np_random), 0
        noise = self._noise[self._step : self._step + 1]
        self._step += 1
        self._position = step_many(self._position[None], np.asarray(action)[None], noise)[0]
        if self.render_mode is not None:
            self._trail.append(self._position)
        reached = bool(self.is_reached(self._position, self._task))
        info = {"is_success": reached}
        return self._observe(), float(reached) - 1.0, reached and self.ends, False, info

    def foresee(
        self, observation: ArrayLike, action: ArrayLike, task: ArrayLike | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return what follows actions from any positions, without noise: what planners ask.

        Args:
            observation: ``[R, 2]``, free positions.
            action: ``[R, 2]``.
            task: ``[R, Z]``; ``None``: every step costs 1.

        Returns:
            Positions ``[R, 2]``, rewards ``[R]``, and whether the goal ends episodes, ``[R]``.
        """
        where = step_many(observation, action, np.zeros(len(np.asarray(observation))))
        if task is None:
            return where, np.full(len(where), -1.0, np.float32), np.zeros(len(where), np.bool_)
        return where, self.compute_reward(where, task), self.compute_terminated(where, task)

    def is_reached(self, achieved_goal: ArrayLike, desired_goal: ArrayLike) -> NDArray[np.bool_]:
        """Return whether positions ``[..., 2]`` are within the radius of the goals, ``[...]``."""
        offset = np.asarray(achieved_goal, np.float32) - self.goal(desired_goal)
        reached: NDArray[np.bool_] = np.sqrt((offset * offset).sum(-1)) <= self.margin(desired_goal)
        return reached

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps that led to ``achieved_goal``.

        Args:
            achieved_goal: ``[..., 2]``.
            desired_goal: ``[..., Z]``, tasks.
            info: Not used.

        Returns:
            ``[...]`` float32.
        """
        return self.is_reached(achieved_goal, desired_goal).astype(np.float32) - np.float32(1)

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> NDArray[np.bool_]:
        """Return whether steps that led to ``achieved_goal`` end the episode.

        Args:
            achieved_goal: ``[..., 2]``.
            desired_goal: ``[..., Z]``, tasks.
            info: Not used.

        Returns:
            ``[...]`` bool.
        """
        return self.is_reached(achieved_goal, desired_goal) & self.ends

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture ``[420, 420, 3]``: i runs down, j to the right."""
        if self.render_mode is None:
            return None
        canvas = Canvas.of_cells(WALLS, rim=1)
        canvas.disc(self.goal(self._task), float(self.margin(self._task)), "goal")
        canvas.disc(self._trail[0], 0.5, "start")
        canvas.line(self._trail, "trail")
        canvas.disc(self._position, 0.5, "agent")
        return canvas.pixels

    def _observe(self) -> Observation:
        return {
            "observation": self._position.copy(),
            "achieved_goal": self._position.copy(),
            "desired_goal": self._task.copy(),
        }
