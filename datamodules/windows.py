"""Windows of rows: the steps before and after a row, clamped inside its episode."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE_END,
    NEXT_OBSERVATION,
    OBSERVATION,
    STEP,
    Key,
    is_below,
    key_name,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.frames import next_key
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import nested
from hindsight_rl.relabel.relabeler import Relabeler, producers
from hindsight_rl.windows import (
    CHUNK,
    HISTORY,
    QUERY,
    SUPPORT,
    VALID,
    ActionWindow,
    Window,
    window_names,
)

_NONE = Relabeler()


class Neighbours(NamedTuple):
    """Rows around each row.

    Attributes:
        rows: ``[..., L]`` int64 row numbers, all of the row's own episode.
        valid: ``[..., L]`` bool, False where the episode does not reach and an end row stands in.
    """

    rows: Tensor
    valid: Tensor


def rows_before(index: Tensor, step: Tensor, history: int) -> Neighbours:
    """Return the rows t - P to t - 1, oldest first; the episode's first row stands in before it.

    Args:
        index: ``[...]`` int64 row numbers.
        step: ``[...]`` int64, time of each row in its episode.
        history: P, at least 0.

    Returns:
        ``[..., P]`` each.
    """
    back = torch.arange(history, 0, -1)
    step = step.unsqueeze(-1)
    return Neighbours(index.unsqueeze(-1) - torch.minimum(back, step), back <= step)


def rows_from(index: Tensor, episode_end: Tensor, chunk: int) -> Neighbours:
    """Return the rows t to t + C - 1; the episode's last row stands in behind it.

    Args:
        index: ``[...]`` int64 row numbers.
        episode_end: ``[...]`` int64, row number of the last step of each row's episode.
        chunk: C, at least 1.

    Returns:
        ``[..., C]`` each.
    """
    wanted = index.unsqueeze(-1) + torch.arange(chunk)
    end = episode_end.unsqueeze(-1)
    return Neighbours(torch.minimum(wanted, end), wanted <= end)


def strided_rows(log: Log, window: Window) -> Tensor | None:
    """Return the rows of a log that may be drawn, ``[M]`` int64, those between strides left out.

    Args:
        log: The log, with the rows that may be drawn.
        window: How far they lie apart.

    Returns:
        Row numbers; ``None`` for all.
    """
    if window.stride == 1:
        return log.rows
    rows = log.drawable()
    return rows[log.column(STEP)[rows] % window.stride == 0]


def strides_of(lengths: Tensor, window: Window) -> int:
    """Return how many rows of episodes of lengths ``[E]`` :func:`strided_rows` leaves."""
    return int((-(-lengths // window.stride)).sum())


class Windows:
    """Gathers what a learner reads around the rows of a batch.

    Where an episode does not reach, observations and images are those of its first or last row, and
    a chunk's actions that of its last; everything else, the actions of a history among it, is 0.
    ``valid`` says where.

    Args:
        log: The log.
        window: How far.
        keys: What the learner reads; of it ``("history", ...)`` and ``("chunk", ...)`` count.
        relabel: Bound relabelers: what they make of a window is what the learner reads.
        action_windows: What the actions of a part are to the learner.

    Raises:
        LogError: A window is asked of a column that the log does not hold, or of stacks of frames.
    """

    def __init__(
        self,
        log: Log,
        window: Window,
        keys: tuple[Key, ...],
        relabel: Relabeler = _NONE,
        action_windows: Mapping[str, ActionWindow] = MappingProxyType({}),
    ) -> None:
        self._log, self._window = log, window
        self._relabel, self._action_windows = relabel, action_windows
        self._names = {part: names_in(log, keys, part) for part in (HISTORY, CHUNK)}

    def attach(self, batch: TensorDict) -> TensorDict:
        """Set the windows of gathered rows in their batch, and return it.

        Args:
            batch: TensorDict ``[...]`` with ``index``, ``step`` and ``episode_end``.

        Returns:
            The batch.
        """
        index = batch["index"]
        if self._names[HISTORY]:
            around = rows_before(index, batch[STEP], self._window.history)
            batch.set(HISTORY, self._gather(HISTORY, around))
        if self._names[CHUNK]:
            around = rows_from(index, batch[EPISODE_END], self._window.chunk)
            batch.set(CHUNK, self._gather(CHUNK, around, ACTION))
        return batch

    def _gather(self, part: str, around: Neighbours, *repeated: Key) -> TensorDict:
        values: dict[Key, Tensor] = {VALID: around.valid}
        values |= {name: self._log.take(name, around.rows) for name in self._names[part]}
        values = self._relabel.windowed(part, around.rows, values, self._action_windows.get(part))
        for name in self._names[part]:
            value, outer = values[name], name if isinstance(name, str) else name[0]
            if outer != OBSERVATION and name not in (*repeated, *self._log.images):
                shape = around.valid.shape + (1,) * (value.ndim - around.valid.ndim)
                values[name] = torch.where(around.valid.view(shape), value, torch.zeros_like(value))
        return TensorDict(nested(values), batch_size=around.rows.shape[:-1])


def names_in(log: Log, keys: tuple[Key, ...], part: str) -> tuple[Key, ...]:
    """Return the columns of a log that a part of the batch holds.

    Args:
        log: The log.
        keys: What the learner reads.
        part: Of the batch, ``"history"`` say.

    Returns:
        Keys of the log: all entries, where the observation has some.

    Raises:
        LogError: One is not in the log, or is of stacks of frames.
    """
    found: list[Key] = []
    for name in window_names(keys, part):
        found += _observed(log, name)
    for name in found:
        if name in log.images and log.frame_stack > 1:
            raise LogError(
                f"the learner reads a {part} of '{key_name(name)}', and frame_stack is "
                f"{log.frame_stack}",
                "Leave frame_stack out: the learner sees past frames itself.",
                path=log.sources[0].name,
            )
        if name not in log:
            raise LogError(
                f"the learner reads a {part} of '{key_name(name)}', which the log lacks",
                f"{_written(name)}ap a column to it, or choose another learner.",
                path=log.sources[0].name,
            )
    return tuple(found)


def _observed(log: Log, name: Key) -> list[Key]:
    """Return the columns that a key stands for: those of all entries, of an observation."""
    if name == OBSERVATION:
        return log.observed
    return [next_key(key) for key in log.observed] if name == NEXT_OBSERVATION else [name]


def _written(key: Key) -> str:
    """Return which relabelers write a column, and the start of what else may be done."""
    makers = producers(key)
    return f"Add the relabeler {' or '.join(makers)}, m" if makers else "M"


def check_rewritten(relabelers: Sequence[Relabeler], keys: tuple[Key, ...]) -> None:
    """Raise on windows and shots of what a relabeler rewrites: they hold the log's, row by row.

    A relabeler judges the row itself. A task it gives holds for the whole window: read ``task``.

    Args:
        relabelers: In order.
        keys: What the learner reads.

    Raises:
        LogError: A window holds a key that a relabeler rewrites.
    """
    for part in (HISTORY, CHUNK, SUPPORT, QUERY):
        for name in window_names(keys, part):
            for relabeler in relabelers:
                if any(is_below(key, name) for key in relabeler.call_writes):
                    raise LogError(
                        f"the learner reads a {part} of '{key_name(name)}', and "
                        f"{type(relabeler).__name__} rewrites it for single rows",
                        "Write the relabeled log first (hindsight relabel), or leave one out.",
                    )
