"""Units of experience that inverse RL judges by rewards: episodes, and what follows a row."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.spans import next_true, span_stops, span_sums
from hindsight_rl.ports import LogView
from hindsight_rl.tasks.family import TaskFamily

Unit = int | Literal["episode", "rest"]
"""What a row is judged by: its episode, the rest of it from the row on, or so many steps of it."""

Score = Literal["sum", "mean", "fulfilled"]
"""Rewards of all steps; their mean; or those up to the step that ends the task, -inf if none."""

_TOGETHER = 1 << 20  # rewards, rows by tasks, that are computed together


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
    first = log.column("step") == 0
    parts = []
    for block in _episodes_of(end, max(1, _TOGETHER // len(tasks))):
        batch = TensorDict(batch_size=[len(end[block])])
        for key, column in columns.items():
            batch.set(key, column[block])
        kept = first[block] if unit == "episode" else slice(None)
        ends = end[block] - block.start
        # A block of one long episode is divided by its tasks.
        few = tasks.split(max(1, _TOGETHER // len(batch)))
        found = [_judged_block(batch, ends, family, part, unit, score) for part in few]
        parts.append(Judged(*(torch.cat(side, 1)[kept] for side in zip(*found, strict=True))))
    scores, fulfilled = (torch.cat(side) for side in zip(*parts, strict=True))
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


def _judged_block(
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
