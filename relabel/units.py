"""Units of experience that inverse RL judges by rewards: episodes, and what follows a row."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.maths.spans import next_true, span_stops, span_sums
from hindsight_rl.ports import LogView
from hindsight_rl.tasks.family import TaskFamily

Unit = int | Literal["episode", "rest"]
"""What a row is judged by: its episode, the rest of it from the row on, or so many steps of it."""

Score = Literal["sum", "mean", "fulfilled"]
"""Rewards of all steps; their mean; or those up to the step that ends the task, -inf if none."""

_TOGETHER = 1 << 20  # rewards, rows by tasks, that are computed together


class _Block(NamedTuple):
    """Whole episodes to be judged, as another process can be given them."""

    columns: dict[Key, NDArray[Any]]
    end: NDArray[np.int64]
    """``[R]``, the number of the last row of each row's episode, within the block."""
    tasks: NDArray[np.float32]
    family: TaskFamily
    unit: Unit
    score: Score


class Judged(NamedTuple):
    """How good units are for tasks: U units, the episodes or the rows of a log."""

    scores: Tensor
    """``[U, N]`` float32, nats at temperature 1; -inf where impossible."""
    fulfilled: Tensor
    """``[U, N]`` bool, whether a step of the unit ends the task."""


def judged(log: LogView, family: TaskFamily, tasks: Tensor, unit: Unit, score: Score) -> Judged:
    """Return how good the units of a log are for tasks.

    Args:
        log: The log.
        family: Gives rewards and says when tasks end.
        tasks: ``[N, Z]``.
        unit: What is judged; a number is that of steps.
        score: How rewards make a score.

    Returns:
        The scores of every unit, in order.

    Raises:
        ValueError: Rewards are not numbers.
    """
    end = log.column("episode_end")
    columns = {key: log.column(key) for key in family.in_keys}

    def blocks() -> Iterator[_Block]:
        for block in _episodes_of(end, max(1, _TOGETHER // len(tasks))):
            values = {key: column[block].numpy() for key, column in columns.items()}
            ends = (end[block] - block.start).numpy()
            yield _Block(values, ends, tasks.numpy(), family, unit, score)

    found = list(log.each(_judged_block, blocks()))
    scores, fulfilled = (torch.from_numpy(np.concatenate(s)) for s in zip(*found, strict=True))
    if bool(scores.isnan().any()):
        raise ValueError(f"rewards of {type(family).__name__} in this log are not numbers")
    return Judged(scores, fulfilled)


def check_unit(unit: Unit) -> None:
    """Raise an error for a unit without a step.

    Args:
        unit: What is judged.

    Raises:
        ValueError: It is a number below 1.
    """
    if not isinstance(unit, str) and (isinstance(unit, bool) or unit < 1):
        raise ValueError(f"unit is {unit}: a number of steps must be at least 1")


def _judged_block(block: _Block) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scores ``[U, N]`` of the units in a block, and whether they are fulfilled."""
    end, tasks = torch.from_numpy(block.end), torch.from_numpy(block.tasks)
    values = {key: torch.from_numpy(value) for key, value in block.columns.items()}
    batch = TensorDict(batch_size=[len(end)])
    for key, value in values.items():
        batch.set(key, value)
    # A block of one long episode is divided by its tasks.
    few = tasks.split(max(1, _TOGETHER // len(end)))
    found = [_judged_rows(batch, end, block.family, part, block.unit, block.score) for part in few]
    first = torch.ones(len(end), dtype=torch.bool)
    if block.unit == "episode":
        first[1:] = end[1:] != end[:-1]
    scores, fulfilled = (torch.cat(side, 1)[first].numpy() for side in zip(*found, strict=True))
    return scores, fulfilled


def _judged_rows(
    batch: TensorDict, end: Tensor, family: TaskFamily, tasks: Tensor, unit: Unit, score: Score
) -> Judged:
    """Return what follows each row of whole episodes, judged under some tasks."""
    stop = span_stops(end, None if isinstance(unit, str) else unit).unsqueeze(1)
    ending = next_true(family.terminated(batch, tasks, pairwise=True))
    fulfilled = ending < stop
    rewards = family.reward(batch, tasks, pairwise=True)
    if score == "fulfilled":
        sums = span_sums(rewards, torch.where(fulfilled, ending + 1, stop))
        return Judged(sums.float().masked_fill(~fulfilled, -torch.inf), fulfilled)
    sums = span_sums(rewards, stop)
    if score == "mean":
        sums /= stop - torch.arange(len(stop)).unsqueeze(1)
    return Judged(sums.float(), fulfilled)


def _episodes_of(end: Tensor, rows: int) -> Iterator[slice]:
    """Yield blocks of whole episodes of about so many rows."""
    group = torch.div(end, rows, rounding_mode="floor")
    start = 0
    for count in torch.unique_consecutive(group, return_counts=True)[1].tolist():
        yield slice(start, start + count)
        start += count
