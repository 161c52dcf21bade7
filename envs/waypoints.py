"""A controller for a point in a maze: the shortest way over free cells, one cell after another.

Made for ``PointMaze`` of Gymnasium-Robotics, of which only the maze is asked: ``maze_map`` (rows of
cells, 1 for a wall), ``cell_xy_to_rowcol`` and ``cell_rowcol_to_xy``.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STIFFNESS, DAMPING = 10.0, 1.0
"""Force, as a share of the largest, per metre from the next cell and per metre per second."""
_NEAR = 0.45
"""Metres within which the environments count a goal as reached."""
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def waypoints(
    maze: Any, noise: float, detours: int, generator: np.random.Generator
) -> Callable[[Any], Array]:
    """Return a walk to the goal of the observation.

    Args:
        maze: The maze.
        noise: Standard deviation of the force, as a share of the largest.
        detours: Cells drawn at random that are visited before the goal.
        generator: Draws noise and detours of this episode.

    Returns:
        ``observation -> force [2]`` float32, in [-1, 1]; the observation holds ``observation``
        (position and velocity) and ``desired_goal``.
    """
    known: dict[tuple[int, int], Array] = {}
    before: list[Array] | None = None

    def away(cell: tuple[int, int]) -> Array:
        if cell not in known:
            known[cell] = distances(maze.maze_map, cell)
        return known[cell]

    def act(observation: Any) -> Array:
        nonlocal before
        place, speed = observation["observation"][:2], observation["observation"][2:]
        here = _cell(maze, place)
        if before is None:
            reachable = np.argwhere(np.isfinite(away(here)))
            drawn = generator.integers(len(reachable), size=detours)
            before = [maze.cell_rowcol_to_xy(reachable[number]) for number in drawn]
        if before and np.linalg.norm(place - before[0]) < _NEAR:
            before.pop(0)
        target = before[0] if before else observation["desired_goal"]
        towards = _next(maze, here, away(_cell(maze, target)), target)
        force = STIFFNESS * (towards - place) - DAMPING * speed
        force = force + generator.normal(0.0, noise, 2)
        clipped: Array = np.clip(force, -1.0, 1.0).astype(np.float32)
        return clipped

    return act


def distances(maze_map: Any, cell: tuple[int, int]) -> Array:
    """Return the steps from every cell to one, infinite for walls and where no way leads.

    Args:
        maze_map: Rows of cells, 1 for a wall.
        cell: Row and column.

    Returns:
        ``[rows, columns]`` float64.
    """
    free = np.array([[kind != 1 for kind in row] for row in maze_map])
    found = np.full(free.shape, np.inf)
    found[cell] = 0.0
    waiting = deque([cell])
    while waiting:
        row, column = waiting.popleft()
        for near in _neighbours((row, column), free.shape):
            if free[near] and np.isinf(found[near]):
                found[near] = found[row, column] + 1.0
                waiting.append(near)
    return found


def _next(maze: Any, here: tuple[int, int], away: Array, target: Array) -> Array:
    """Return where to go now: the target in its own cell, else the middle of the next one."""
    if away[here] == 0:
        return target
    best = min(_neighbours(here, away.shape), key=lambda cell: float(away[cell]))
    middle: Array = maze.cell_rowcol_to_xy(np.array(best))
    return middle


def _cell(maze: Any, place: Array) -> tuple[int, int]:
    row, column = maze.cell_xy_to_rowcol(place)
    return int(row), int(column)


def _neighbours(cell: tuple[int, int], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    around = [(cell[0] + down, cell[1] + right) for down, right in _STEPS]
    return [(row, col) for row, col in around if 0 <= row < shape[0] and 0 <= col < shape[1]]
