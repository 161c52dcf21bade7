"""Hindsight goals: the task is what the episode reached later.

Three roles stay apart: a strategy *proposes* the row whose outcome becomes the goal
(``companions``), ``fraction`` *selects* the rows that take it, the task family *recomputes* reward
and termination.
"""

from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import COMPANION, DRAWS, NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import integers, uniform
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

_OUT_KEYS: tuple[Key, ...] = ("task", ("next", "reward"), ("next", "terminated"))


class FinalGoal(Relabeler):
    """The goal is what the episode reached with its last step.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: ``fraction`` is out of range, or (in a batch) below 1 with no task to keep.

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
        other = self.bound()
        other.family = _bound_family(self.family, log)
        other._episode_end = log.column("episode_end")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return the last row of each row's episode."""
        return {"goal": self._episode_end[index]}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return _towards_goal(batch, self.family, self.fraction)


class EpisodeGoal(Relabeler):
    """The goal is what the episode reached with any of its steps, before or after this one.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: ``fraction`` is out of range, or (in a batch) below 1 with no task to keep.

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
        other = self.bound()
        other.family = _bound_family(self.family, log)
        other._end = log.column("episode_end")
        other._start = torch.arange(len(log)) - log.column("step")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return a row of each row's episode, all of them alike."""
        start = self._start[index]
        return {"goal": start + integers(draws, self._end[index] - start + 1)}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return _towards_goal(batch, self.family, self.fraction)


class FutureGoal(Relabeler):
    """The goal is what the episode reached with this step or a later one.

    The outcome of the present step counts as future: offset 0 is drawn too, and such a row is a
    success by construction. With ``present=False`` offsets start at 1; only in the last step of an
    episode, which has none after it, the goal is still its own outcome.

    Offsets are of three kinds:

    - ``"uniform"`` over the rest of the episode (HER);
    - ``"geometric"``, P(offset = k) = (1 - discount) * discount**k; what lies beyond the end falls
      on the last step;
    - ``"pairs"``: of the T + 1 states of an episode one but the last and another one are drawn, and
      the earlier is the row, the later its goal, as in the published code of GCSL. A row with r
      steps left, its own among them, is then the earlier one 2 r / (T (T + 1)) of the time, and
      given it, offsets have the weights 3, 2, ..., 2, 1 (2 where r is 1): rows get the first as
      ``weight``, of mean 1 over the rows that may be drawn (times the weight they have), and goals
      are drawn by the second. Every episode counts alike, however long.

    Args:
        family: Judges reward and termination for the new goal; sparse goal reaching by default.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.
        offset: How far ahead; see above.
        discount: For geometric offsets, in (0, 1).
        present: The outcome of the present step counts as future.

    Raises:
        ValueError: An argument is out of range, pairs are asked for without the present step, or
            (in a batch) ``fraction`` is below 1 with no task to keep.

    Reference:
        Andrychowicz et al. 2017, arXiv 1707.01495, strategy "future"; pairs: Ghosh et al. 2021,
        arXiv 1912.06088, dibyaghosh/gcsl.
    """

    in_keys = (NEXT_ACHIEVED,)
    out_keys = _OUT_KEYS

    def __init__(
        self,
        family: TaskFamily | None = None,
        fraction: float = 1.0,
        offset: Literal["uniform", "geometric", "pairs"] = "uniform",
        discount: float = 0.99,
        present: bool = True,
    ) -> None:
        super().__init__()
        check_choices(FutureGoal.__init__, locals())
        check_fraction(fraction)
        if not 0 < discount < 1:
            raise ValueError(f"discount is {discount}, it must lie in (0, 1)")
        if offset == "pairs":
            if not present:
                raise ValueError(
                    "pairs of states begin with the outcome of the present step: offset 'pairs' "
                    "goes with present=True only"
                )
            self.out_keys = (*_OUT_KEYS, "weight")
        self.family, self.fraction = family or GoalReaching(), fraction
        self.offset, self.discount, self.present = offset, discount, present
        self._episode_end = torch.empty(0, dtype=torch.int64)

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """What is reached with the row that is proposed."""
        return (NEXT_ACHIEVED,)

    def prepare(self, log: LogView) -> "FutureGoal":
        """Return a copy that knows where episodes end, and how much rows weigh."""
        other = self.bound(columns={"weight": _pair_weight(log)} if self.offset == "pairs" else {})
        other.family = _bound_family(self.family, log)
        other._episode_end = log.column("episode_end")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return a row at or after each index, within its episode."""
        end = self._episode_end[index]
        first = index if self.present else torch.minimum(index + 1, end)
        if self.offset == "geometric":
            # Inverse transform: floor(log(1 - u) / log(discount)) is geometric and starts at 0.
            steps = torch.log1p(-uniform(draws)) / torch.log(torch.tensor(self.discount))
            return {"goal": torch.minimum(first + steps.long(), end)}
        left = end - first + 1
        if self.offset == "pairs":
            # Of the numbers 0 to 2 left - 1 three give offset 0, two each the next, one the last.
            return {"goal": first + (integers(draws, 2 * left) - 1).clamp(min=0) // 2}
        return {"goal": first + integers(draws, left)}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        return _towards_goal(batch, self.family, self.fraction)


def _pair_weight(log: LogView) -> Tensor:
    """Return how often each row is the earlier of a pair, ``[N]``, mean 1 over the drawable."""
    left = log.column("episode_end") - torch.arange(len(log)) + 1
    length = log.column("step") + left
    weight = left.double() / (length * (length + 1))
    weight /= weight[log.drawable()].mean()
    return (weight * log.column("weight") if "weight" in log else weight).float()


def _bound_family(family: TaskFamily, log: LogView) -> TaskFamily:
    """Return the family bound to the log, if what was reached there names tasks of it."""
    family = family.prepare(log)
    family.task_of(log.column(NEXT_ACHIEVED)[:1], torch.zeros(1, 3, dtype=torch.int64))
    return family


def _towards_goal(batch: TensorDict, family: TaskFamily, fraction: float) -> TensorDict:
    """Return the batch under the tasks that the proposed rows fulfil."""
    reached = batch[COMPANION, "goal"][NEXT_ACHIEVED]
    return recompute(batch, family.task_of(reached, batch[DRAWS]), family, fraction)
