"""Task families: what a task is, how good a transition is for it, and when it ends."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import fork, integers, uniform
from hindsight_rl.ports import LogView


class TaskFamily(ABC):
    """A set of tasks that share a reward function; the base class of every family.

    Tasks are float32 ``[..., Z]``. Elementwise, row i of the batch meets task i; pairwise, every
    row meets every one of N tasks.

    Attributes:
        in_keys: Keys of a transition that the reward needs.
    """

    in_keys: tuple[Key, ...] = ()

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

        Raises:
            ValueError: The prior is that of a log, and the family was not bound to one.
        """

    def task_of(self, reached: Tensor, draws: Tensor) -> Tensor:
        """Return a task that getting there fulfils; goal relabelers propose it.

        Args:
            reached: ``[..., G]``, where a step led (``next.achieved_goal``).
            draws: ``[..., 3]`` int64 counters, for what the place leaves open.

        Returns:
            ``[..., Z]`` float32.

        Raises:
            ValueError: Tasks of this family are not about getting somewhere.
        """
        raise ValueError(
            f"no task of {type(self).__name__} is fulfilled by getting somewhere, so what was "
            "reached names none: use RandomTask or InverseRL with it, or give it a task_of"
        )

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


class RowPrior:
    """The prior of families whose tasks are read off the log: uniform over its rows.

    Args:
        tasks: ``[M, Z]``, one of each row; ``None`` until there is a log.
    """

    def __init__(self, tasks: Tensor | None = None) -> None:
        self.tasks = tasks

    def sample(self, draws: Tensor) -> Tensor:
        """Return the task of one row per counter.

        Args:
            draws: ``[..., 3]`` int64 counters.

        Returns:
            ``[..., Z]`` float32.

        Raises:
            ValueError: There is no log yet.
        """
        if self.tasks is None:
            raise ValueError("the family has no prior yet, it is taken from a log: call prepare")
        return self.tasks.to(draws.device)[integers(draws, len(self.tasks))]

    def log_prob(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every task.

        Args:
            task: ``[..., Z]``.

        Returns:
            ``[...]``, nats.
        """
        count = 1 if self.tasks is None else len(self.tasks)
        return torch.full(task.shape[:-1], -math.log(count), device=task.device)


class GoalReaching(TaskFamily):
    """A task is a goal; what counts is where the step led (``next.achieved_goal``).

    Sparse: 0 within ``radius`` of the goal, else -1. Dense: minus the distance. Distances are
    Euclidean, in the unit of the goal. The prior is uniform over the states reached in the log.

    With a range of radii the margin is part of the task: its last number is the radius within which
    the goal counts as reached (a dense reward does not look at it, termination does). Its prior is
    uniform over the range, whatever the goal.

    With a price of effort the last number of what was achieved is no part of the place but the
    effort of the step (the squared length of its action, say). A dense reward is then minus the
    distance minus the price times the effort.

    Args:
        radius: Success at or within this distance, above 0; or its smallest and largest value,
            where each task says its own.
        kind: ``"sparse"`` or ``"dense"``.
        ends: Reaching the goal terminates (False for tasks that go on at the goal).
        effort: Price of effort, in reward per unit of effort, not negative; ``None``: what was
            achieved is a place alone.

    Raises:
        ValueError: ``radius`` is not above 0, or is no range, or ``kind`` is neither; ``effort`` is
            negative, or the reward is sparse and has no use for it.

    Reference:
        Margins as part of the task: Eysenbach et al. 2020, arXiv 2002.11089, appendix C.
    """

    in_keys = (NEXT_ACHIEVED,)

    def __init__(
        self,
        radius: float | tuple[float, float] = 0.05,
        kind: Literal["sparse", "dense"] = "sparse",
        ends: bool = True,
        effort: float | None = None,
    ) -> None:
        check_choices(GoalReaching.__init__, locals())
        if effort is not None and not (effort >= 0 and kind == "dense"):
            raise ValueError(
                f"effort is {effort} and kind {kind!r}: a price of effort must not be negative, "
                "and needs a dense reward"
            )
        self.radius, self.margin = _radius(radius)
        self.kind, self.ends, self.effort = kind, ends, effort
        self._prior = RowPrior()

    def prepare(self, log: LogView) -> Self:
        """Return a copy whose prior is the states reached in the log."""
        other = copy.copy(self)
        other._prior = RowPrior(log.column(NEXT_ACHIEVED)[log.drawable()])
        return other

    def sample(self, draws: Tensor) -> Tensor:
        """Return states reached in the log, each with a margin where tasks have one."""
        return self.task_of(self._prior.sample(draws), draws)

    def task_of(self, reached: Tensor, draws: Tensor) -> Tensor:
        """Return the place as goal; its margin, where tasks have one, is a draw of the prior.

        Args:
            reached: ``[..., G]``, where a step led.
            draws: ``[..., 3]`` int64 counters.

        Returns:
            ``[..., Z]`` float32; Z is the size of a place, and one more with a margin.
        """
        reached = self._place(reached)
        if self.margin is None:
            return reached
        low, high = self.margin
        margin = low + (high - low) * uniform(fork(draws, "margin"))
        return torch.cat([reached, margin.unsqueeze(-1)], dim=-1)

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every goal, -inf for a margin out of range."""
        value = self._prior.log_prob(task)
        if self.margin is None:
            return value
        inside = (task[..., -1] >= self.margin[0]) & (task[..., -1] <= self.margin[1])
        return torch.where(inside, value, -torch.inf)

    def distance(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the distance between where each step led and a goal.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Measure every row against every goal.

        Returns:
            ``[...]``, or ``[..., N]`` when pairwise; unit of the goal.
        """
        reached = self._place(batch[NEXT_ACHIEVED])
        goal = task if self.margin is None else task[..., :-1]
        if pairwise:
            reached = reached.unsqueeze(-2)
        distance: Tensor = torch.linalg.vector_norm(reached - goal, dim=-1)
        return distance

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return 0 or -1 (sparse), or minus the distance and the effort's price (dense)."""
        if self.kind == "dense":
            reward = -self.distance(batch, task, pairwise=pairwise)
            if self.effort is None:
                return reward
            cost: Tensor = self.effort * batch[NEXT_ACHIEVED][..., -1]
            return reward - (cost.unsqueeze(-1) if pairwise else cost)
        return self._reached(batch, task, pairwise).float() - 1.0

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return whether the goal was reached, or False throughout where tasks go on."""
        return self._reached(batch, task, pairwise) & self.ends

    def _place(self, reached: Tensor) -> Tensor:
        return reached if self.effort is None else reached[..., :-1]

    def _reached(self, batch: TensorDict, task: Tensor, pairwise: bool) -> Tensor:
        radius = self.radius if self.margin is None else task[..., -1]
        return self.distance(batch, task, pairwise=pairwise) <= radius


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


def _radius(radius: float | Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the largest radius, and the range where there is one."""
    if not isinstance(radius, Sequence):
        if not radius > 0:
            raise ValueError(f"radius is {radius}, it must be above 0")
        return radius, None
    if len(radius) != 2 or not 0 <= radius[0] < radius[1]:
        raise ValueError(
            f"radius is {list(radius)}: a range has two numbers, low and high, 0 <= low < high"
        )
    return radius[1], (radius[0], radius[1])
