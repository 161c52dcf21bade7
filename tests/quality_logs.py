"""Episodes of two joints that follow slow targets three steps late, and damage to some of them.

Imported as ``quality_logs`` (``tests`` is on pytest's path).
"""

from typing import Any

import numpy as np

Columns = dict[str, np.ndarray[Any, Any]]
LAG = 3


def robot(episodes: int = 12, steps: int = 150, lags: dict[int, int] | None = None) -> Columns:
    """Return columns as a file has them; every episode begins and ends about alike.

    Args:
        episodes: How many.
        steps: Of each.
        lags: Steps of delay of some episodes, :data:`LAG` for the others.

    Returns:
        ``observation`` and ``action`` ``[N, 2]``, ``reward``, ``episode``.
    """
    generator = np.random.default_rng(0)
    targets, states = [], []
    for number in range(episodes):
        time, lag = np.arange(steps)[:, None] / steps, (lags or {}).get(number, LAG)
        shift = generator.normal(size=(1, 2))
        target = np.sin(2 * np.pi * (time + [0.0, 0.25])) + 0.1 * np.sin(
            2 * np.pi * 5 * time + shift
        )
        target += 0.01 * generator.normal(size=target.shape)
        state = np.zeros((steps, 2))
        state[0] = target[0]
        for step in range(steps - 1):
            state[step + 1] = state[step] + 0.3 * (target[max(0, step - lag)] - state[step])
        targets.append(target)
        states.append(state)
    return {
        "observation": np.concatenate(states).astype(np.float32),
        "action": np.concatenate(targets).astype(np.float32),
        "reward": np.zeros(episodes * steps, np.float32),
        "episode": np.repeat(np.arange(episodes), steps),
    }


def frozen(columns: Columns, episode: int, start: int, rows: int) -> Columns:
    """Return columns in which an episode stands still for so many rows."""
    first = int(np.flatnonzero(columns["episode"] == episode)[0]) + start
    found = {name: values.copy() for name, values in columns.items()}
    for name in ("observation", "action"):
        found[name][first : first + rows] = found[name][first]
    return found


def trembling(columns: Columns, episode: int, size: float = 0.03) -> Columns:
    """Return columns in which the joints of an episode tremble."""
    rows = columns["episode"] == episode
    noise = np.random.default_rng(1).normal(size=(int(rows.sum()), 2))
    seen = columns["observation"].copy()
    seen[rows] += (size * noise).astype(np.float32)
    return columns | {"observation": seen}


def cut(columns: Columns, episode: int, rows: int) -> Columns:
    """Return columns in which an episode has the first so many rows alone."""
    number = columns["episode"]
    first = int(np.flatnonzero(number == episode)[0])
    kept = (number != episode) | (np.arange(len(number)) < first + rows)
    return {name: values[kept] for name, values in columns.items()}
