"""Shots: rows of the task of a row, for a policy that has to find out which task it is in."""

from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.windows import names_in
from hindsight_rl.keys import ACTION, DRAWS, EPISODE, EPISODE_END, TASK_ID, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import nested
from hindsight_rl.logs.preferences import episode_starts
from hindsight_rl.maths.draws import fork, integers
from hindsight_rl.windows import QUERY, SUPPORT, Shots


class Tasks(NamedTuple):
    """The tasks of a log, and the episodes of each that may be drawn.

    Attributes:
        task: ``[E]`` int64, of each episode, counted from 0.
        episodes: ``[T]`` int64, number of episodes of each task that may be drawn.
        first: ``[T]`` int64, place of its first one in ``order``.
        order: ``[D]`` int64, the episodes that may be drawn, task by task.
        place: ``[E]`` int64, place of an episode among those of its task, -1 of others.
    """

    task: Tensor
    episodes: Tensor
    first: Tensor
    order: Tensor
    place: Tensor

    @classmethod
    def of(cls, log: Log) -> "Tasks":
        """Return the tasks of a log: by ``task_id``, or of several sources each is one.

        Args:
            log: The log, its drawable rows those of the training split.

        Returns:
            The tasks.

        Raises:
            LogError: The log does not say which episode is of which task, or all are of one.
        """
        task = _task_of_episodes(log)
        tasks = int(task.max()) + 1
        drawable = torch.zeros(len(task), dtype=torch.bool)
        drawable[log.take(EPISODE, log.drawable())] = True
        chosen = drawable.nonzero().squeeze(1)
        order = chosen[task[chosen].argsort(stable=True)]
        count = torch.bincount(task[order], minlength=tasks)
        first = count.cumsum(0) - count
        place = torch.full((len(task),), -1)
        place[order] = torch.arange(len(order)) - first[task[order]]
        return cls(task, count, first, order, place)

    def others(self, episode: Tensor) -> Tensor:
        """Return how many other episodes of its task may be drawn beside each, ``[...]`` int64."""
        return self.episodes[self.task[episode]] - (self.place[episode] >= 0).long()

    def other(self, episode: Tensor, number: Tensor) -> Tensor:
        """Return one of them.

        Args:
            episode: ``[...]`` int64.
            number: ``[...]`` int64, which of :meth:`others`; where there are none not used.

        Returns:
            ``[...]`` int64, an episode; the same one where there is no other.
        """
        place = self.place[episode]
        number = number + ((place >= 0) & (number >= place)).long()
        at = (self.first[self.task[episode]] + number).clamp(max=len(self.order) - 1)
        return torch.where(self.others(episode) > 0, self.order[at], episode)


class TaskRows:
    """Gathers rows of the task of each row of a batch.

    Rows and episodes are drawn by counters, with replacement. The support is of other episodes, so
    that a policy adapted to it is judged by rows that it has not seen. Of a row whose task has no
    other episode it is of its own: such rows are read in order only, never drawn.

    Args:
        log: The log.
        shots: How many.
        keys: What the learner reads; of it ``("support", ...)`` and ``("query", ...)`` count.

    Raises:
        LogError: Tasks are not known, no task has two episodes, or a column is not in the log.
    """

    def __init__(self, log: Log, shots: Shots, keys: tuple[Key, ...]) -> None:
        self._log, self._shots = log, shots
        self._names = {part: names_in(log, keys, part) for part in (SUPPORT, QUERY)}
        self._tasks = Tasks.of(log)
        self._episodes = _Episodes(log)
        rows = log.drawable()
        self.rows = rows[self._tasks.others(log.take(EPISODE, rows)) > 0]
        if not len(self.rows):
            raise LogError(
                f"none of its {len(self._tasks.episodes)} tasks has two episodes that may be "
                "drawn, one to adapt to and one to judge that by",
                "Log more episodes of each task, or hold fewer out (data.validation).",
                path=log.sources[0].name,
            )

    def attach(self, batch: TensorDict) -> TensorDict:
        """Set the shots of gathered rows in their batch, and return it.

        Args:
            batch: TensorDict ``[...]`` with ``episode`` and ``draws``.

        Returns:
            The batch.
        """
        draws, own = batch[DRAWS].unsqueeze(-2), batch[EPISODE].unsqueeze(-1)
        shots = self._shots
        number = torch.arange(shots.episodes)
        others = self._tasks.others(own).clamp_min(1)
        chosen = self._tasks.other(own, integers(fork(draws, "episodes"), others, number))
        wide = torch.arange(shots.support) % shots.episodes
        self._set(batch, SUPPORT, chosen[..., wide], fork(draws, SUPPORT))
        if shots.query:
            self._set(batch, QUERY, own.expand(*own.shape[:-1], shots.query), fork(draws, QUERY))
        return batch

    def _set(self, batch: TensorDict, part: str, episode: Tensor, draws: Tensor) -> None:
        """Draw a row of each episode ``[..., N]`` and set what is read of it."""
        rows = self._episodes.row(episode, draws)
        values = {name: self._log.take(name, rows) for name in self._names[part]}
        batch.set(part, TensorDict(nested(values), batch_size=rows.shape))


def support_of(log: Log, keys: tuple[Key, ...]) -> TensorDict:
    """Return all rows of a log as the support of one task.

    Args:
        log: Rows of one task.
        keys: What the learner reads; of it ``("support", ...)`` counts.

    Returns:
        TensorDict ``[N]``, choices from 0.

    Raises:
        LogError: A column is not in the log.
    """
    rows = log.drawable()
    values = {name: log.take(name, rows) for name in names_in(log, keys, SUPPORT)}
    found = TensorDict(nested(values), batch_size=rows.shape)
    if not log.column(ACTION, slice(1)).is_floating_point():
        found[ACTION] = found[ACTION] - int(log.info.get("action_start") or 0)
    return found


class _Episodes:
    """Draws rows of episodes: those that may be drawn, or of an episode without such all."""

    def __init__(self, log: Log) -> None:
        self._rows = log.drawable().sort().values
        self._start = episode_starts(log)
        self._length = log.take(EPISODE_END, self._start) + 1 - self._start
        self._size = torch.bincount(log.take(EPISODE, self._rows), minlength=len(self._start))
        self._low = self._size.cumsum(0) - self._size

    def row(self, episode: Tensor, draws: Tensor) -> Tensor:
        """Return a row number of each episode ``[..., N]``, one draw after the other."""
        size = self._size[episode]
        some = size > 0
        count = torch.where(some, size, self._length[episode])
        number = integers(draws, count, torch.arange(episode.shape[-1]))
        at = (self._low[episode] + number).clamp(max=len(self._rows) - 1)
        return torch.where(some, self._rows[at], self._start[episode] + number)


def _task_of_episodes(log: Log) -> Tensor:
    """Return the number of the task of each episode, ``[E]`` int64."""
    path, start = log.sources[0].name, episode_starts(log)
    if TASK_ID not in log:
        if len(log.sources) == 1:
            raise LogError(
                "the learner adapts to tasks, and the log does not say which episode is of which",
                f"Call its column of task numbers {TASK_ID} and have it read "
                f"(--data.columns.extra '[{TASK_ID}]'), or give one source for each task.",
                path=path,
            )
        ends = torch.tensor([source.stop for source in log.sources])
        task = torch.searchsorted(ends, start, right=True)
    else:
        value = log.take(TASK_ID, start)
        _check_task_id(log, value, path)
        task = value.unique(return_inverse=True)[1]
    if int(task.max()) == int(task.min()):
        raise LogError(
            "all episodes are of one task, and the learner adapts to one of several",
            "Give episodes of further tasks, or clone with BC.",
            path=path,
        )
    return task


def _check_task_id(log: Log, value: Tensor, path: str) -> None:
    """Raise on task numbers that are no numbers, or differ within an episode."""
    for rows in log.spans():
        here, episode = log.column(TASK_ID, rows), log.column(EPISODE, rows)
        if here.ndim > 1:
            raise LogError(
                f"rows have shape {list(here.shape[1:])}, and a task has one number",
                "Number the tasks.",
                path=path,
                column=key_name(TASK_ID),
            )
        wrong = (here != value[episode]).nonzero()  # NaN too: it equals nothing
        if len(wrong):
            raise LogError(
                f"is {here[wrong[0]].item()} in an episode that began with "
                f"{value[episode[wrong[0]]].item()}",
                "Give all rows of an episode the number of its task.",
                path=path,
                column=key_name(TASK_ID),
                row=rows.start + int(wrong[0]),
            )
