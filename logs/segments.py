"""Segments of a log: steps in a row within one episode, drawn in pairs to be compared."""

import torch
from torch import Tensor

from hindsight_rl.keys import EPISODE, EPISODE_END, REWARD, STEP
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, fork, integers
from hindsight_rl.maths.preferences import segment_sum


def segment_starts(log: Log, length: int) -> Tensor:
    """Return the rows that a segment may start from, ``[C]`` int64, at least two.

    Args:
        log: The log; only rows that may be drawn count.
        length: Steps of a segment, at least 1.

    Returns:
        Row numbers in order.

    Raises:
        LogError: There are fewer than two.
        ValueError: ``length`` is below 1.
    """
    if length < 1:
        raise ValueError(f"length is {length}, it must be at least 1")
    rows = log.drawable()
    found = rows[log.take(EPISODE_END, rows) - rows >= length - 1]
    if len(found) < 2:
        longest = int(log.column(STEP).max()) + 1
        raise LogError(
            f"fewer than two segments of {length} steps can be drawn; the longest episode has "
            f"{longest}",
            f"Compare shorter ones: --length {max(1, longest // 2)}.",
            path=log.sources[0].name,
        )
    return found


def draw_pairs(log: Log, length: int, count: int, *, seed: int, first: int = 0) -> Tensor:
    """Return pairs of segments, each two different ones, uniform over all.

    Pair number i depends on the seed and i alone: further pairs are others.

    Args:
        log: The log.
        length: Steps of a segment.
        count: M, number of pairs.
        seed: Of the draws.
        first: Number of the first pair.

    Returns:
        ``[M, 2]`` int64 row numbers of the segments' first steps.

    Raises:
        LogError: Segments are too long for the episodes.
    """
    starts = segment_starts(log, length)
    number = torch.arange(first, first + count)
    draws = fork(counters(seed, torch.zeros(1, dtype=torch.int64), number), "pairs")[0]
    one = integers(draws, len(starts))
    other = integers(draws, len(starts) - 1, draw=1)
    return starts[torch.stack([one, other + (other >= one)], dim=1)]


def places(log: Log, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the episode and the step of rows, ``[...]`` int64 each."""
    return log.take(EPISODE, rows), log.take(STEP, rows)


def segment_returns(log: Log, rows: Tensor, length: int) -> Tensor:
    """Return the sum of the log's rewards over segments.

    Args:
        log: The log.
        rows: ``[...]`` int64, first steps.
        length: Steps.

    Returns:
        ``[...]`` float64, reward units.
    """
    steps = rows.unsqueeze(-1) + torch.arange(length)
    return segment_sum(log.take(REWARD, steps).double())
