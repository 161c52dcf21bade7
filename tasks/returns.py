"""Returns, and how long they may take, as tasks."""

import copy
from typing import Literal, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.maths.returns import last_rows, returns_to_go
from hindsight_rl.ports import LogView
from hindsight_rl.tasks.family import RowPrior, TaskFamily


class ReturnTasks(TaskFamily):
    """A task is the return of an episode, or that and its number of steps.

    An episode is judged when it is over: the reward is 0 but for its last step, which gets

    - dense: -abs(return - task's return), in standard deviations of the log's returns; with a
      horizon the same of the number of steps is added;
    - sparse: 0 if the return is at least the task's (and the steps at most the task's), else -1.

    So the sum of rewards of an episode, its score in inverse RL, is how well it fulfils the task.
    With little temperature the posterior of dense rewards is the episode's own outcome, which is
    what ``ReturnTask`` writes without asking (but from each step on, and not for whole episodes).
    Returns are those of the log that the family is bound to; tasks end when the log says so. The
    prior is uniform over the rows that may be drawn, each with the outcome of its episode.

    Args:
        discount: In [0, 1].
        horizon: The task has a second number, the steps of the episode.
        kind: ``"dense"`` or ``"sparse"``.

    Raises:
        ValueError: ``discount`` is out of range, or ``kind`` is neither.
    """

    in_keys = ("episode", "step", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self,
        discount: float = 1.0,
        horizon: bool = False,
        kind: Literal["sparse", "dense"] = "dense",
    ) -> None:
        check_choices(ReturnTasks.__init__, locals())
        if not 0 <= discount <= 1:
            raise ValueError(f"discount is {discount}, it must lie in [0, 1]")
        self.discount, self.horizon, self.kind = discount, horizon, kind
        self._prior = RowPrior()
        self._outcome = self._spread = self._length = torch.empty(0)

    def prepare(self, log: LogView) -> Self:
        """Return a copy that knows return and length of every episode."""
        last, step = last_rows(log.column("episode_end")), log.column("step")
        total = returns_to_go(log.column(("next", "reward")), last, self.discount)[step == 0]
        other = copy.copy(self)
        other._length = step[last] + 1
        parts = [total.float(), other._length.float()] if self.horizon else [total.float()]
        other._outcome = torch.stack(parts, dim=-1)
        drawable = other._outcome[log.column("episode")[log.drawable()]]
        spread = drawable.double().std(0, correction=0).float()
        other._spread = torch.where(spread > 0, spread, 1.0)
        other._prior = RowPrior(drawable)
        return other

    def sample(self, draws: Tensor) -> Tensor:
        """Return the outcome of episodes in the log, one per counter; reward units, and steps."""
        return self._prior.sample(draws)

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every outcome, ``[...]``, nats."""
        return self._prior.log_prob(task)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return how well the episode fulfils the task, at its last step; see the class.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Score every row under every task.

        Returns:
            ``[...]``, or ``[..., N]`` when pairwise.

        Raises:
            ValueError: The family was not bound to a log.
        """
        if not len(self._outcome):
            raise ValueError("ReturnTasks judges by the returns of a log: call prepare")
        episode, device = batch["episode"], task.device
        outcome = self._outcome.to(device)[episode]
        last = batch["step"] + 1 == self._length.to(device)[episode]
        if pairwise:
            outcome, last = outcome.unsqueeze(-2), last.unsqueeze(-1)
        if self.kind == "dense":
            score = -((outcome - task).abs() / self._spread.to(device)).sum(-1)
        else:
            # More return is welcome, more steps are not.
            sign = torch.tensor([1.0, -1.0], device=device)[: task.shape[-1]]
            score = (sign * outcome >= sign * task).all(-1).float() - 1.0
        return torch.where(last, score, 0.0)

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return what the log says, whatever the task, ``[...]`` or ``[..., N]`` when pairwise."""
        ended: Tensor = batch["next", "terminated"]
        return ended.unsqueeze(-1).expand(*ended.shape, len(task)) if pairwise else ended
