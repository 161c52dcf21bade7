"""The episodes of a log side by side: what estimators over episodes take."""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.keys import EPISODE_END, REWARD, TERMINATED
from hindsight_rl.logs.log import Log


class Episodes(NamedTuple):
    """Whole episodes ``[n, H]``, shorter ones padded at their ends.

    Attributes:
        row: ``[n, H]`` int64, number of each step's row; that of the last step behind the end.
        valid: ``[n, H]`` bool, steps that are part of the episode.
        reward: ``[n, H]`` float64, 0 behind the end.
        terminated: ``[n]`` bool, whether the task ended; else a time limit cut the episode.
        owner: ``[M]`` int64, the episode of every step that counts, in the order of ``rows``.
        rows: ``[M]`` int64, row numbers of these steps.
    """

    row: Tensor
    valid: Tensor
    reward: Tensor
    terminated: Tensor
    owner: Tensor
    rows: Tensor

    @property
    def first(self) -> Tensor:
        """Return the row number of each first step, ``[n]``."""
        return self.row[:, 0]

    @property
    def last(self) -> Tensor:
        """Return the row number of each last step, ``[n]``."""
        return self.row[:, -1]

    @property
    def lengths(self) -> Tensor:
        """Return the steps of each, ``[n]``."""
        return self.valid.sum(-1)

    def padded(self, column: Tensor) -> Tensor:
        """Return a column ``[N]`` as ``[n, H]`` float64, 0 behind the end."""
        return torch.where(self.valid, column.double()[self.row], 0.0)

    def with_what_follows(self, value: Tensor, following: Tensor) -> Tensor:
        """Return values of every state, and of the one that a time limit kept from going on.

        It stands directly behind the last step of its own episode: an episode of L steps counts it
        with discount^L, however long the others are.

        Args:
            value: ``[n, H]``, of every state, 0 behind the end.
            following: ``[n]``, of the state after the last step; ignored where the task ended.

        Returns:
            ``[n, H + 1]``.
        """
        found = torch.cat([value, torch.zeros_like(value[:, :1])], dim=-1)
        found[torch.arange(len(found)), self.lengths] = following.where(~self.terminated, 0.0)
        return found

    def steps(self, discount: float, horizon: int | None) -> Tensor:
        """Return the discounted number of steps that each episode has, ``[n, 2]`` float64.

        Args:
            discount: In [0, 1], below 1 without a horizon.
            horizon: Steps after which returns end, ``None`` for never.

        Returns:
            Those in the log, and those that a time limit kept from being in it.
        """

        def until(count: Tensor) -> Tensor:
            return count if discount == 1.0 else (1.0 - discount**count) / (1.0 - discount)

        length = self.lengths.double()
        whole = until(torch.full_like(length, horizon or torch.inf))
        logged = until(length)
        return torch.stack([logged, (whole - logged).where(~self.terminated, 0.0)], dim=-1)

    def returns(self, discount: float) -> Tensor:
        """Return what each episode got, ``[n]`` float64, discounted from its first step."""
        steps = torch.arange(self.reward.shape[1], dtype=torch.float64)
        return (self.reward * discount**steps).sum(-1)


def episodes_of(log: Log, horizon: int | None = None) -> Episodes:
    """Return the episodes of a log.

    Args:
        log: The log, all of its rows; those that a filter hides count too.
        horizon: Steps after which an episode counts as cut, ``None`` for its own length.

    Returns:
        The episodes.
    """
    ends = log.column(EPISODE_END)
    last = (ends == torch.arange(len(log))).nonzero().squeeze(-1)
    first = torch.cat([torch.zeros(1, dtype=torch.int64), last[:-1] + 1])
    terminated = log.column(TERMINATED)[last]
    if horizon is not None:
        terminated = terminated & (last < first + horizon)
        last = torch.minimum(last, first + horizon - 1)
    step = torch.arange(int((last - first).max()) + 1)
    wanted = first.unsqueeze(-1) + step
    valid = wanted <= last.unsqueeze(-1)
    row = torch.minimum(wanted, last.unsqueeze(-1))
    reward = torch.where(valid, log.column(REWARD).double()[row], 0.0)
    owner, _ = valid.nonzero(as_tuple=True)
    return Episodes(row, valid, reward, terminated, owner, row[valid])
