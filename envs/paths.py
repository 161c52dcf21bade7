"""The shortest way through four rooms, as a policy: the mark to measure learned ones against."""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from hindsight_rl.envs.four_rooms import SIDE, WALLS, Floats

_MOVES = tuple(move for move in product((-1, 0, 1), repeat=2) if any(move))


def shortest_path(observation: ArrayLike, goal: ArrayLike, env: object = None) -> Floats:
    """Return the actions that lead to goals by a shortest way.

    A policy for ``rollout`` in ``Hindsight/FourRooms-v0``. It runs towards the centre of the next
    cell on the way, twice as fast as the distance asks for (clipped noise slows every run down),
    and close to the goal walks to the goal itself.

    Args:
        observation: ``[n, 2]``, positions.
        goal: ``[n, 2]``, positions.
        env: Not looked into: an expert is asked with it.

    Returns:
        ``[n, 2]`` float32, in [-1, 1].
    """
    position, goals = np.asarray(observation, np.float32), np.asarray(goal, np.float32)
    action = np.empty_like(position)
    for row, (here, end) in enumerate(zip(position, goals, strict=True)):
        cell = tuple(here.astype(np.intp).tolist())
        following, steps = _way(*end.astype(np.intp).tolist())
        action[row] = end - here if steps[cell] <= 1 else 2 * (following[cell] + 0.5 - here)
    return np.clip(action, -1.0, 1.0)


@cache
def _way(i: int, j: int) -> tuple[Floats, Floats]:
    """Return for every cell the next one on a shortest way to a goal cell, and the steps left.

    Speed is limited for each axis on its own, so that a diagonal step counts as one; it must not
    cut a wall's corner. Of steps equally short the one that ends nearest to the goal is taken.

    Args:
        i: The goal cell.
        j: The goal cell.

    Returns:
        ``[33, 33, 2]`` and ``[33, 33]`` float32; infinite where there is no way.
    """
    free = np.pad(~WALLS, 1)
    inner = slice(1, SIDE + 1)
    ahead = [(slice(1 + a, SIDE + 1 + a), slice(1 + b, SIDE + 1 + b)) for a, b in _MOVES]
    passable = np.stack([free[a, inner] & free[inner, b] & free[a, b] for a, b in ahead])
    steps = np.full((SIDE + 2, SIDE + 2), np.inf, np.float32)
    steps[i + 1, j + 1] = 0
    while True:
        left = np.where(passable, np.stack([steps[place] for place in ahead]), np.inf)
        shorter = np.minimum(steps[inner, inner], left.min(0) + 1)
        if np.array_equal(shorter, steps[inner, inner]):
            break
        steps[inner, inner] = shorter
    cells = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1)
    following = cells + np.array(_MOVES)[:, None, None]
    detour = np.linalg.norm(following - [i, j], axis=-1) / SIDE**2
    best = np.expand_dims((left + detour).argmin(0), (0, -1))
    chosen = np.take_along_axis(following, best, 0)[0].astype(np.float32)
    return chosen, steps[inner, inner]
