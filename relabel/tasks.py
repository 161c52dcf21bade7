"""Task families: what a task is, how good a transition is for it, and when it ends."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import fork, integers, uniform
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


class LinearTasks(TaskFamily):
    """A task is a vector of weights; the reward is its inner product with features of the step.

    The prior is uniform over a box of weights. Such tasks go on for ever.

    Args:
        low: Smallest weight of each feature.
        high: Largest weight of each feature, not below ``low``.
        features: Column with the features ``[Z]``, as it is printed (``next.achieved_goal``).

    Raises:
        ValueError: The box has no volume, or its sides differ in length.

    Reference:
        Barreto et al. 2017, arXiv 1606.05312; as tasks to relabel with, Eysenbach et al. 2020,
        arXiv 2002.11089.
    """

    def __init__(
        self, low: Sequence[float], high: Sequence[float], features: str = "next.achieved_goal"
    ) -> None:
        if len(low) != len(high) or not len(low):
            raise ValueError(f"low has {len(low)} weights and high {len(high)}: give as many")
        if any(top < bottom for bottom, top in zip(low, high, strict=True)):
            raise ValueError(f"high {list(high)} is below low {list(low)}")
        parts = tuple(features.split("."))
        self.features: Key = parts[0] if len(parts) == 1 else parts
        self.in_keys = (self.features,)
        self.low, self.high = torch.tensor(low).float(), torch.tensor(high).float()

    def prepare(self, log: LogView) -> Self:
        """Return this family, if the log has as many features as there are weights.

        Args:
            log: The log.

        Returns:
            The family itself.

        Raises:
            ValueError: It has another number.
        """
        shape = tuple(log.column(self.features).shape[1:])
        if shape != (len(self.low),):
            raise ValueError(
                f"{len(self.low)} weights for features of shape {list(shape)}: give low and high "
                "one number for each feature"
            )
        return self

    def sample(self, draws: Tensor) -> Tensor:
        """Return weights ``[..., Z]`` float32, uniform over the box."""
        each = [uniform(fork(draws, number)) for number in range(len(self.low))]
        low, high = self.low.to(draws.device), self.high.to(draws.device)
        return low + (high - low) * torch.stack(each, dim=-1)

    def log_prior(self, task: Tensor) -> Tensor:
        """Return 0 within the box and -inf outside, ``[...]``, nats."""
        inside = (task >= self.low.to(task.device)) & (task <= self.high.to(task.device))
        return torch.where(inside.all(-1), 0.0, -torch.inf)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return weights times features, ``[...]`` or ``[..., N]`` when pairwise."""
        features = batch[self.features]
        return features @ task.T if pairwise else (features * task).sum(-1)

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return False throughout."""
        shape = (*batch.batch_size, len(task)) if pairwise else batch.batch_size
        return torch.zeros(shape, dtype=torch.bool, device=task.device)


class DiscreteTasks(TaskFamily):
    """One of K tasks of another family, as a one-hot vector: a policy learns each by its number.

    Args:
        family: What the tasks mean: four goals of ``GoalReaching``, say.
        tasks: The K tasks of that family, Z numbers each.
        weights: How likely each is; all alike if left out.

    Raises:
        ValueError: There are no tasks, or not as many weights, or one is not above 0.
    """

    def __init__(
        self,
        family: TaskFamily,
        tasks: Sequence[Sequence[float]],
        weights: Sequence[float] | None = None,
    ) -> None:
        weights = [1.0] * len(tasks) if weights is None else weights
        if not len(tasks) or len(weights) != len(tasks) or not all(w > 0 for w in weights):
            raise ValueError(
                f"{len(tasks)} tasks with weights {list(weights)}: give at least one task, and one "
                "weight above 0 for each"
            )
        self.family, self.tasks = family, torch.tensor(tasks).float()
        self.in_keys = family.in_keys
        self.shares = torch.tensor(weights).double() / sum(weights)

    def prepare(self, log: LogView) -> Self:
        """Return a copy whose tasks are bound to a log."""
        other = copy.copy(self)
        other.family = self.family.prepare(log)
        return other

    def sample(self, draws: Tensor) -> Tensor:
        """Return one-hot vectors ``[..., K]`` float32."""
        edges = self.shares.cumsum(0)[:-1].float().to(draws.device)
        number = torch.searchsorted(edges, uniform(draws), right=True)
        return torch.nn.functional.one_hot(number, len(self.tasks)).float()

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the log-probability of each one-hot vector, ``[...]``, nats."""
        return (task @ self.shares.to(task.device, task.dtype)).log()

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the reward of the task that is meant."""
        return self.family.reward(batch, self._meant(task), pairwise=pairwise)

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return whether the task that is meant ends."""
        return self.family.terminated(batch, self._meant(task), pairwise=pairwise)

    def _meant(self, task: Tensor) -> Tensor:
        return self.tasks.to(task.device)[task.argmax(-1)]
