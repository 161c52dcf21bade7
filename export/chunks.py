"""Chunks of actions: a queue that is executed in turn, or an average of all that was foreseen.

Both are kept as arrays of one row per episode, like every other state of a policy, so that episodes
may begin and end at different times. Pure functions: states go in and new ones come out.
"""

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.signature import Action, Chunk

Array = NDArray[np.float32] | NDArray[np.int64] | NDArray[np.float64]
State = dict[str, Array]

_ACTIONS, _TAKEN = "chunk.actions", "chunk.taken"
_SUM, _COUNT = "chunk.sum", "chunk.count"


def initial(chunk: Chunk, action: Action, rows: int) -> State:
    """Return the state with which episodes begin.

    Args:
        chunk: How chunks are executed.
        action: What one action is.
        rows: Number of episodes n.

    Returns:
        Queue: ``chunk.actions [n, C, ...]``, ``chunk.taken [n]``, how many of them were executed.
        Ensemble: ``chunk.sum [n, C, A]`` and ``chunk.count [n, C]``, the weighted sum and number of
        the answers for this step and those after it.
    """
    if chunk.ensemble is not None:
        return {
            _SUM: np.zeros((rows, chunk.length, *action.shape)),
            _COUNT: np.zeros((rows, chunk.length), dtype=np.int64),
        }
    return {
        _ACTIONS: np.zeros((rows, chunk.length, *action.shape), dtype=action.dtype),
        _TAKEN: np.full(rows, chunk.execute),
    }


def due(chunk: Chunk, state: State) -> NDArray[np.bool_]:
    """Return ``[n]``, the episodes for which the graph runs now."""
    if chunk.ensemble is not None:
        return np.ones(len(state[_COUNT]), dtype=np.bool_)
    found: NDArray[np.bool_] = state[_TAKEN] >= chunk.execute
    return found


def asked_before(chunk: Chunk, state: State) -> NDArray[np.bool_]:
    """Return ``[n]``, the episodes for which the graph ran in the step that led to a state."""
    if chunk.ensemble is not None:
        return np.ones(len(state[_COUNT]), dtype=np.bool_)
    found: NDArray[np.bool_] = state[_TAKEN] == 1
    return found


def with_last(past: Array, action: Array, moved: NDArray[np.bool_]) -> Array:
    """Return past actions, the last of which is what was executed.

    Args:
        past: ``[n, P, ...]``, the newest in the last place.
        action: ``[n, ...]``.
        moved: ``[n]``, the episodes whose past the step has moved on.

    Returns:
        ``[n, P, ...]``, an array of its own.
    """
    found = past.copy()
    found[moved, -1] = action[moved]
    return found


def advance(
    chunk: Chunk, state: State, asked: NDArray[np.bool_], answers: Array
) -> tuple[Array, State]:
    """Return the actions of a step, and the following state.

    Args:
        chunk: How chunks are executed.
        state: As :func:`initial` gives it.
        asked: ``[n]``, what :func:`due` returned.
        answers: ``[m, C, ...]``, the graph's answers for these m episodes.

    Returns:
        ``[n, ...]``, and the state.

    Reference:
        Zhao et al. 2023, arXiv 2304.13705, algorithm 2: the weight of the i-th oldest answer for a
        step is exp(-m i), so that old ones weigh more where m is positive.
    """
    if chunk.ensemble is not None:
        return _averaged(chunk, state, answers)
    if chunk.length == 1:  # nothing waits
        return answers[:, 0], {name: state[name] for name in (_ACTIONS, _TAKEN)}
    actions, taken = state[_ACTIONS].copy(), state[_TAKEN].copy()
    actions[asked], taken[asked] = answers, 0
    rows = np.arange(len(taken))
    return actions[rows, taken], {_ACTIONS: actions, _TAKEN: taken + 1}


def _averaged(chunk: Chunk, state: State, answers: Array) -> tuple[Array, State]:
    """Return the average of all answers for this step, by their online sums."""
    decay = chunk.ensemble or 0.0
    count = state[_COUNT]
    total = state[_SUM] + np.exp(-decay * count)[..., None] * answers
    count = count + 1
    # 1 + exp(-m) + ... of as many answers as there were for this step.
    weight = np.exp(-decay * np.arange(chunk.length)).cumsum()[count[:, 0] - 1]
    action = (total[:, 0] / weight[:, None]).astype(np.float32)
    # The last place is a step that nobody has answered for yet.
    total, count = np.roll(total, -1, axis=1), np.roll(count, -1, axis=1)
    total[:, -1], count[:, -1] = 0.0, 0
    return action, {_SUM: total, _COUNT: count}
