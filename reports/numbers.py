"""What relabeling did to a log, in numbers: counted in sweeps, so that the log may be large."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.relabeled import PROVENANCE
from hindsight_rl.datamodules.relabeled_rows import original
from hindsight_rl.keys import EPISODE, REWARD, TERMINATED, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.posterior import posterior_metrics
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import ReturnToGo
from hindsight_rl.tasks.family import DiscreteTasks
from hindsight_rl.tasks.linear import LinearTasks
from hindsight_rl.tasks.returns import ReturnTasks

_JUDGED = (REWARD, TERMINATED)
_ACHIEVED: tuple[Key, ...] = (("next", "achieved_goal"), "achieved_goal")
_SAMPLE = 200_000
"""Rows that histograms and maps show, evenly spaced: those of more rows look the same."""


@dataclass(frozen=True)
class Side:
    """A log as it was, or as it is now.

    Args:
        returns: ``[E]`` float64, sum of rewards of each episode.
        counts: Rows and episodes that count on this side: all before, those drawn after.
        successes: Rows at which the task ends, and episodes that have one.
        rewarded: Rows whose reward is above the smallest of the log, and episodes that have one.
        sample: Some rows ``[S]``: what of ``task`` and ``reward`` there is.
    """

    returns: Tensor
    counts: tuple[int, int]
    successes: tuple[int, int]
    rewarded: tuple[int, int]
    sample: dict[str, Tensor]


@dataclass(frozen=True)
class Posterior:
    """The posterior of inverse RL for every trajectory.

    Args:
        probability: ``[E, N]`` of each task, for the episodes that may be drawn.
        tasks: ``[N, Z]``.
    """

    probability: Tensor
    tasks: Tensor

    @property
    def entropy(self) -> float:
        """Mean entropy over trajectories, nats."""
        return float(posterior_metrics(self.probability)["entropy"])

    @property
    def effective_tasks(self) -> float:
        """How many tasks share the trajectories, in [1, N]."""
        return float(posterior_metrics(self.probability)["effective_tasks"])

    @property
    def effective_trajectories(self) -> Tensor:
        """Effective sample size of each task, ``[N]``: (sum q)**2 / sum q**2 over trajectories."""
        q = self.probability.double()
        return q.sum(0).square() / q.square().sum(0).clamp_min(1e-300)


@dataclass(frozen=True)
class Numbers:
    """What relabeling did to a log.

    Args:
        rows: Number of rows.
        episodes: Number of episodes.
        drawn: ``[N]`` bool, rows that may be drawn.
        rewritten: Drawn rows whose task, reward or termination is another than before.
        moved: Drawn rows whose task is another; ``None`` where the log had no task.
        had_task: Whether the log had tasks before.
        has_task: Whether it has now.
        before: As it was.
        after: As it is.
        ended: Whether the relabelers judged anew when tasks end.
        effective_rows: (sum w)**2 / sum w**2 over drawn rows; ``None`` without weights.
        posteriors: Of each relabeler that has one.
        places: Whether the first two numbers of a task are a place, where states reached are.
        meant: ``[K, Z]``, what one-hot tasks stand for; ``None`` where that is not known.
    """

    rows: int
    episodes: int
    drawn: Tensor
    rewritten: int
    moved: int | None
    had_task: bool
    has_task: bool
    before: Side
    after: Side
    ended: bool
    effective_rows: float | None
    posteriors: tuple[Posterior, ...]
    places: bool
    meant: Tensor | None

    def useful(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return useful rows and episodes before and after, see :meth:`usefulness`."""
        if self.ended:
            return self.before.successes, self.after.successes
        return self.before.rewarded, self.after.rewarded

    def usefulness(self) -> str:
        """Return what makes a row useful: that its task is reached or, if none is, a reward."""
        if self.ended:
            return "that reaches its task, which ends there"
        return "with a reward above the smallest of the log"


def before(log: Log, key: Key) -> Key | None:
    """Return the key of a column as it was before relabeling, ``None`` if there was none.

    Args:
        log: A relabeled log.
        key: The column.

    Returns:
        A key of the log.
    """
    if original(key) in log:
        return original(key)
    added = log.info[PROVENANCE][-1]["added"]
    name = key_name(key)
    return key if key in log and name not in added else None


def measure(log: Log, bound: Relabeler | None = None) -> Numbers:
    """Return the numbers of a relabeled log.

    Args:
        log: A log that ``write_relabeled`` wrote.
        bound: The relabelers it was made with, for what they know beyond the log.

    Returns:
        The numbers.

    Raises:
        LogError: The log was not relabeled.
    """
    if not log.info.get(PROVENANCE):
        raise LogError(
            "the log was not relabeled, there is nothing to report",
            "Give one that 'hindsight relabel' wrote.",
            path=log.sources[0].name,
        )
    parts = list(_parts(bound))
    goal = next((key for key in _ACHIEVED if key in log), None)
    achieved = None if goal is None else log.shape(goal)
    drawn = torch.ones(len(log), dtype=torch.bool)
    if log.rows is not None:
        drawn = torch.zeros(len(log), dtype=torch.bool)
        drawn[log.rows] = True
    every = torch.ones(1, dtype=torch.bool).expand(len(log))
    had_task, has_task = before(log, "task"), "task" in log
    rewritten, moved = _changes(log, drawn)
    after = _side(log, drawn, REWARD, TERMINATED, "task" if has_task else None)
    was = (before(log, REWARD) or REWARD, before(log, TERMINATED) or TERMINATED)
    judged = original(TERMINATED) in log
    return Numbers(
        rows=len(log),
        episodes=log.episodes,
        drawn=drawn,
        rewritten=rewritten,
        moved=None if had_task is None or not has_task else moved,
        had_task=had_task is not None,
        has_task=has_task,
        before=_side(log, every, *was, had_task),
        after=after,
        ended=judged and after.successes[0] > 0,
        effective_rows=_effective_rows(log, drawn),
        posteriors=tuple(_posteriors(bound, log, drawn)),
        places=achieved == (2,) and not any(isinstance(p, _NO_PLACES) for p in parts),
        meant=next((part.tasks for part in parts if isinstance(part, DiscreteTasks)), None),
    )


_NO_PLACES = (LinearTasks, ReturnTask, ReturnTasks, ReturnToGo)


def _changes(log: Log, drawn: Tensor) -> tuple[int, int]:
    """Return how many drawn rows have another task, reward or end, and how many another task."""
    rewritten = moved = 0
    for rows in log.spans():
        other = torch.zeros(rows.stop - rows.start, dtype=torch.bool)
        for key in ("task", *_JUDGED):
            was = before(log, key)
            if was is None and key in log:
                changed = torch.ones_like(other)
            elif was is None or was == key:
                continue
            else:
                changed = _differ(log.column(key, rows), log.column(was, rows))
            moved += int((changed & drawn[rows]).sum()) if key == "task" else 0
            other |= changed
        rewritten += int((other & drawn[rows]).sum())
    return rewritten, moved


def _differ(one: Tensor, two: Tensor) -> Tensor:
    if one.shape != two.shape:
        return torch.ones(len(one), dtype=torch.bool)
    return (one != two).reshape(len(one), -1).any(1)


def _side(log: Log, counted: Tensor, reward_key: Key, end_key: Key, task_key: Key | None) -> Side:
    episodes = log.episodes
    returns = torch.zeros(episodes, dtype=torch.float64)
    best = torch.full((episodes,), -math.inf)
    ends = torch.zeros(episodes, dtype=torch.int64)
    rows = torch.zeros(episodes, dtype=torch.int64)
    smallest, at_smallest = math.inf, 0
    for span in log.spans():
        keep = counted[span]
        episode, reward = log.column(EPISODE, span)[keep], log.column(reward_key, span)[keep]
        returns.index_add_(0, episode, reward.double())
        best.scatter_reduce_(0, episode, reward, "amax")
        ends.index_add_(0, episode, log.column(end_key, span)[keep].long())
        rows.index_add_(0, episode, torch.ones_like(episode))
        least = float(reward.min()) if len(reward) else math.inf
        if least < smallest:
            smallest, at_smallest = least, 0
        at_smallest += int((reward == smallest).sum())
    seen = rows > 0
    return Side(
        returns=returns[seen],
        counts=(int(rows.sum()), int(seen.sum())),
        successes=(int(ends.sum()), int((ends > 0).sum())),
        rewarded=(int(rows.sum()) - at_smallest, int((best[seen] > smallest).sum())),
        sample=_sample(log, counted, reward_key, task_key),
    )


def _sample(log: Log, counted: Tensor, reward_key: Key, task_key: Key | None) -> dict[str, Tensor]:
    rows = torch.arange(0, len(log), max(1, len(log) // _SAMPLE))
    batch = log.gather(rows[counted[rows]], images=False)
    found: dict[str, Tensor] = {"reward": batch[reward_key]}
    if task_key is not None:
        found["task"] = batch[task_key].reshape(len(batch), -1)
    goal = next((key for key in _ACHIEVED if key in log), None)
    if goal is not None:
        found["achieved"] = batch[goal].reshape(len(batch), -1)
    return found


def _effective_rows(log: Log, drawn: Tensor) -> float | None:
    if "weight" not in log:
        return None
    total = square = 0.0
    for span in log.spans():
        weight = log.column("weight", span)[drawn[span]].double()
        total, square = total + float(weight.sum()), square + float(weight.square().sum())
    return total**2 / square if square else 0.0


def _posteriors(bound: Relabeler | None, log: Log, drawn: Tensor) -> Iterator[Posterior]:
    """Yield the posteriors over tasks that the relabelers hold."""
    for part in _parts(bound):
        held = part.posterior if isinstance(part, InverseRL) else torch.empty(0)
        if len(held) == log.episodes:
            seen = torch.zeros(log.episodes, dtype=torch.bool)
            for span in log.spans():
                seen[log.column(EPISODE, span)[drawn[span]]] = True
            yield Posterior(held[seen], part.choices)


def _parts(whole: Any) -> Iterator[Any]:
    """Yield a relabeler, those it is made of, and their families of tasks."""
    if whole is None:
        return
    yield whole
    for part in (*getattr(whole, "relabelers", ()), getattr(whole, "family", None)):
        yield from _parts(part)


def episode_rows(log: Log, episode: int) -> TensorDict:
    """Return the rows of one episode.

    Args:
        log: The log.
        episode: Its number.

    Returns:
        TensorDict ``[T]``.
    """
    low, high = 0, len(log)
    while low < high:  # episodes are numbered in order
        middle = (low + high) // 2
        if int(log.column(EPISODE, slice(middle, middle + 1))) < episode:
            low = middle + 1
        else:
            high = middle
    end = int(log.column("episode_end", slice(low, low + 1)))
    return log.gather(torch.arange(low, end + 1), images=False)
