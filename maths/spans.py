"""Sums over spans of adjacent rows, for every row of a log and every one of several tasks at once.

A span begins at its row and ends before its stop: with the episode, after so many steps, or with
the step that ends a task.
"""

import torch
from torch import Tensor


def span_stops(end: Tensor, steps: int | None = None) -> Tensor:
    """Return the row after the last one of each row's span.

    Args:
        end: ``[R]`` int64, the last row of each row's episode.
        steps: Length of spans, fewer where the episode ends before; ``None``: its whole rest.

    Returns:
        ``[R]`` int64.
    """
    if steps is None:
        return end + 1
    return torch.minimum(end + 1, torch.arange(len(end)) + steps)


def next_true(flags: Tensor) -> Tensor:
    """Return the first row at or after each one that is true, ``R`` where there is none.

    Args:
        flags: ``[R, N]`` bool.

    Returns:
        ``[R, N]`` int64.
    """
    rows = torch.arange(len(flags)).unsqueeze(1)
    marked = torch.where(flags, rows, len(flags))
    return marked.flip(0).cummin(0).values.flip(0)


def span_sums(values: Tensor, stop: Tensor) -> Tensor:
    """Return the sum of values from each row to its stop: one pass, however long the spans.

    Args:
        values: ``[R, N]``; -inf makes the sums over it -inf.
        stop: ``[R, N]`` or ``[R, 1]`` int64, the row after the last one; above its own.

    Returns:
        ``[R, N]`` float64.
    """
    stop = stop.expand(values.shape)
    impossible = values == -torch.inf
    if not bool(impossible.any()):
        return _differences(values.double(), stop)
    # A difference of infinite sums would be NaN: they are counted instead.
    sums = _differences(values.double().masked_fill(impossible, 0.0), stop)
    return sums.masked_fill(_differences(impossible.long(), stop) > 0, -torch.inf)


def _differences(values: Tensor, stop: Tensor) -> Tensor:
    before = torch.cat([values.new_zeros(1, values.shape[1]), values.cumsum(0)])
    return before.gather(0, stop) - before[:-1]
