"""Task families: what a task is, how good a transition is for it, and when it ends."""

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import integers
from hindsight_rl.relabel.relabeler import Key, LogView

ACHIEVED = "achieved_goal"
NEXT_ACHIEVED = ("next", "achieved_goal")


class TaskFamily(ABC):
    """A set of tasks that share a reward function; the base class of every family.

    Tasks are float32 ``[..., Z]``. Elementwise, row i of the batch meets task i; pairwise, every
    row meets every one of N tasks.

    Attributes:
        in_keys: Keys of a transition that the reward needs.
    """

    in_keys: ClassVar[tuple[Key, ...]] = ()

    def prepare(self, log: LogView) -> Self:
        """Return a copy bound to a log (for priors taken from it)."""
        return self

    @abstractmethod
    def sample(self, draws: Tensor) -> Tensor:
        """Return one task of the prior per counter.

        Args:
            draws: ``[..., 3]`` int64 counters.

        Returns:
            ``[..., Z]`` float32.
        """

    @abstractmethod
    def log_prior(self, task: Tensor) -> Tensor:
        """Return the log-probability of tasks under the prior, up to a constant.

        Args:
            task: ``[..., Z]``.

        Returns:
            ``[...]``, nats.
        """

    @abstractmethod
    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the reward of each row's step under a task.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Score every row under every task.

        Returns:
            ``[...]``, or ``[..., N]`` when pairwise; reward units.
        """

    @abstractmethod
    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return whether the task ends with each row's step, bool of the shape of the reward.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Judge every row under every task.

        Returns:
            bool ``[...]``, or ``[..., N]`` when pairwise.
        """


class GoalReaching(TaskFamily):
    """A task is a goal; what counts is where the step led (``next.achieved_goal``).

    Sparse: 0 within ``radius`` of the goal, else -1. Dense: minus the distance. Distances are
    Euclidean, in the unit of the goal. The prior is uniform over the states reached in the log.

    Args:
        radius: Success at or within this distance, above 0.
        kind: ``"sparse"`` or ``"dense"``.
        ends: Reaching the goal terminates (False for tasks that go on at the goal).

    Raises:
        ValueError: ``radius`` is not above 0.
    """

    in_keys = (NEXT_ACHIEVED,)

    def __init__(
        self, radius: float = 0.05, kind: Literal["sparse", "dense"] = "sparse", ends: bool = True
    ) -> None:
        if not radius > 0:
            raise ValueError(f"radius is {radius}, it must be above 0")
        self.radius, self.kind, self.ends = radius, kind, ends
        self._goals = torch.empty(0, 0)

    def prepare(self, log: LogView) -> Self:
        """Return a copy whose prior is the states reached in the log."""
        other = copy.copy(self)
        other._goals = log.column(NEXT_ACHIEVED)[log.drawable()]
        return other

    def sample(self, draws: Tensor) -> Tensor:
        """Return states reached in the log, one per counter.

        Args:
            draws: ``[..., 3]`` int64 counters.

        Returns:
            ``[..., Z]`` float32.

        Raises:
            ValueError: The family was not bound to a log.
        """
        if not len(self._goals):
            raise ValueError("GoalReaching has no prior yet: call prepare(log) first")
        return self._goals.to(draws.device)[integers(draws, len(self._goals))]

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every goal.

        Args:
            task: ``[..., Z]``.

        Returns:
            ``[...]``, nats.
        """
        return torch.full(task.shape[:-1], -math.log(max(1, len(self._goals))), device=task.device)

    def distance(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the distance between where each step led and a goal.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Measure every row against every goal.

        Returns:
            ``[...]``, or ``[..., N]`` when pairwise; unit of the goal.
        """
        reached = batch[NEXT_ACHIEVED]
        if pairwise:
            return torch.linalg.vector_norm(reached.unsqueeze(-2) - task, dim=-1)
        return torch.linalg.vector_norm(reached - task, dim=-1)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return 0 or -1 (sparse), or minus the distance (dense); see the class.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Score every row under every task.

        Returns:
            ``[...]``, or ``[..., N]`` when pairwise.
        """
        distance = self.distance(batch, task, pairwise=pairwise)
        return (distance <= self.radius).float() - 1.0 if self.kind == "sparse" else -distance

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return whether the goal was reached, or False throughout where tasks go on.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Judge every row under every task.

        Returns:
            bool ``[...]``, or ``[..., N]`` when pairwise.
        """
        distance = self.distance(batch, task, pairwise=pairwise)
        return (distance <= self.radius) & self.ends
