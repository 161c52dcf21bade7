"""Hindsight goals: what the episode reached later becomes the task it is judged by.

Three roles stay apart: a strategy *proposes* the row whose outcome becomes the goal
(``companions``), ``fraction`` *selects* the rows that take it, the task family *recomputes* reward
and termination.
"""

from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import integers, uniform
from hindsight_rl.relabel.relabeler import COMPANION, DRAWS, Key, LogView, Relabeler
from hindsight_rl.relabel.tasks import NEXT_ACHIEVED, GoalReaching, TaskFamily

_OUT_KEYS = ("task", ("next", "reward"), ("next", "terminated"))


class FinalGoal(Relabeler):
    """The goal is what the episode reached with its last step.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: ``fraction`` is out of range, or (``prepare``) below 1 with no task to keep.

    Reference:
        Andrychowicz et al. 2017, arXiv 1707.01495, strategy "final".
    """

    in_keys = (NEXT_ACHIEVED,)
    out_keys = _OUT_KEYS

    def __init__(self, family: TaskFamily | None = None, fraction: float = 1.0) -> None:
        super().__init__()
        check_fraction(fraction)
        self.family, self.fraction = family or GoalReaching(), fraction
        self._episode_end = torch.empty(0, dtype=torch.int64)

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """What is reached with the row that is proposed."""
        return (NEXT_ACHIEVED,)

    def prepare(self, log: LogView) -> "FinalGoal":
        """Return a copy that knows where episodes end."""
        _check_goals(log, self.fraction)
        other = self.bound()
        other.family = self.family.prepare(log)
        other._episode_end = log.column("episode_end")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return the last row of each row's episode."""
        return {"goal": self._episode_end[index]}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return recompute(batch, batch[COMPANION, "goal"][NEXT_ACHIEVED], self.family, self.fraction)


class EpisodeGoal(Relabeler):
    """The goal is what the episode reached with any of its steps, before or after this one.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: ``fraction`` is out of range, or (``prepare``) below 1 with no task to keep.

    Reference:
        Andrychowicz et al. 2017, arXiv 1707.01495, strategy "episode".
    """

    in_keys = (NEXT_ACHIEVED,)
    out_keys = _OUT_KEYS

    def __init__(self, family: TaskFamily | None = None, fraction: float = 1.0) -> None:
        super().__init__()
        check_fraction(fraction)
        self.family, self.fraction = family or GoalReaching(), fraction
        self._start = self._end = torch.empty(0, dtype=torch.int64)

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """What is reached with the row that is proposed."""
        return (NEXT_ACHIEVED,)

    def prepare(self, log: LogView) -> "EpisodeGoal":
        """Return a copy that knows where episodes begin and end."""
        _check_goals(log, self.fraction)
        other = self.bound()
        other.family = self.family.prepare(log)
        other._end = log.column("episode_end")
        other._start = torch.arange(len(log)) - log.column("step")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return a row of each row's episode, all of them alike."""
        start = self._start[index]
        return {"goal": start + integers(draws, self._end[index] - start + 1)}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return recompute(batch, batch[COMPANION, "goal"][NEXT_ACHIEVED], self.family, self.fraction)


class FutureGoal(Relabeler):
    """The goal is what the episode reached with this step or a later one.

    The outcome of the present step counts as future: offset 0 is drawn too, and such a row is a
    success by construction.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        offset: ``"uniform"`` over the rest of the episode, or ``"geometric"``; geometric mass
            beyond the end falls on the last step.
        discount: For geometric offsets, in (0, 1): P(offset = k) = (1 - discount) * discount**k.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) ``fraction`` is below 1 with no
            task to keep.

    Reference:
        Andrychowicz et al. 2017, arXiv 1707.01495, strategy "future".
    """

    in_keys = (NEXT_ACHIEVED,)
    out_keys = _OUT_KEYS

    def __init__(
        self,
        family: TaskFamily | None = None,
        fraction: float = 1.0,
        offset: Literal["uniform", "geometric"] = "uniform",
        discount: float = 0.99,
    ) -> None:
        super().__init__()
        check_fraction(fraction)
        if not 0 < discount < 1:
            raise ValueError(f"discount is {discount}, it must lie in (0, 1)")
        self.family, self.fraction = family or GoalReaching(), fraction
        self.offset, self.discount = offset, discount
        self._episode_end = torch.empty(0, dtype=torch.int64)

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """What is reached with the row that is proposed."""
        return (NEXT_ACHIEVED,)

    def prepare(self, log: LogView) -> "FutureGoal":
        """Return a copy that knows where episodes end."""
        _check_goals(log, self.fraction)
        other = self.bound()
        other.family = self.family.prepare(log)
        other._episode_end = log.column("episode_end")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return a row at or after each index, within its episode."""
        end = self._episode_end[index]
        if self.offset == "uniform":
            return {"goal": index + integers(draws, end - index + 1)}
        # Inverse transform: floor(log(1 - u) / log(discount)) is geometric and starts at 0.
        steps = torch.log1p(-uniform(draws)) / torch.log(torch.tensor(self.discount))
        return {"goal": torch.minimum(index + steps.long(), end)}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return recompute(batch, batch[COMPANION, "goal"][NEXT_ACHIEVED], self.family, self.fraction)


def recompute(batch: TensorDict, task: Tensor, family: TaskFamily, fraction: float) -> TensorDict:
    """Return the batch under new tasks: task, reward and termination rewritten.

    Args:
        batch: Transitions ``[K, B]`` with ``draws``.
        task: ``[K, B, Z]``, the proposed tasks.
        family: Judges reward and termination.
        fraction: Probability that a row takes the new task, in [0, 1].

    Returns:
        A shallow copy; rows that keep their task keep their reward and termination.
    """
    reward, terminated = family.reward(batch, task), family.terminated(batch, task)
    following = batch["next"].copy()
    if fraction < 1:
        chosen = uniform(batch[DRAWS], draw=1) < fraction
        task = torch.where(chosen.unsqueeze(-1), task, batch["task"])
        reward = torch.where(chosen, reward, following["reward"])
        terminated = torch.where(chosen, terminated, following["terminated"])
    following.set("reward", reward).set("terminated", terminated)
    return batch.copy().set("task", task).set("next", following)


def check_fraction(fraction: float) -> None:
    """Refuse a share of rows that is none.

    Args:
        fraction: Probability that a row is relabeled.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}, it must lie in [0, 1]")


def _check_goals(log: LogView, fraction: float) -> None:
    goal = log.column(NEXT_ACHIEVED)
    if fraction == 1:
        return
    if "task" not in log:
        raise ValueError(
            f"fraction is {fraction}, but the log has no 'task' that the other rows could keep: "
            "set fraction to 1, or map the commanded goal to 'task'"
        )
    task = log.column("task")
    if task.shape != goal.shape:
        raise ValueError(
            f"'task' has shape {list(task.shape[1:])} and 'next.achieved_goal' "
            f"{list(goal.shape[1:])}: rows that keep their task need tasks that are goals; set "
            "fraction to 1, or map the commanded goal to 'task'"
        )


def check_kept(log: LogView, width: int) -> None:
    """Refuse rows that keep a task which is none, or of another kind.

    Args:
        log: The log.
        width: Z of the tasks that other rows get.

    Raises:
        ValueError: The log has no tasks, or they have another shape.
    """
    held = tuple(log.column("task").shape[1:]) if "task" in log else None
    if held != (width,):
        found = "has no 'task'" if held is None else f"has tasks of shape {list(held)}"
        raise ValueError(
            f"fraction is below 1, but the log {found} that the other rows could keep, tasks here "
            f"have shape [{width}]: set fraction to 1, or map the commanded task to 'task'"
        )
