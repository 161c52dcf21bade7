"""Skew-Fit: goals are drawn more often the more rarely they were reached."""

import torch
from tensordict import TensorDict

from hindsight_rl.keys import DRAWS, NEXT_ACHIEVED, Key
from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, kept_task
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching, TaskFamily
from hindsight_rl.tasks.skewed import Skew, SkewedGoals

_SKEW = Skew()


class SkewedGoal(Relabeler):
    """The goal is any place of the log, the more likely the more rarely it was reached.

    Goals ~ p^(1 + alpha), p being the density of what was reached, found anew in every round of an
    ``IteratedDataModule``. Collect under goals of the same kind (``collection.command`` RareGoal):
    what is reached then spreads out round by round, until all places are as likely.

    Rows that keep their goal get the reward of the family for it, too: the environment judged the
    goal it showed, not the one that was commanded.

    Args:
        family: Judges reward and termination; sparse goal reaching by default.
        fraction: Probability that a row gets a goal of the log, in [0, 1]; the rest keep theirs.
        skew: How much more often rare places are drawn, and their density.

    Raises:
        ValueError: ``fraction`` is out of range, or (in a batch) below 1 with no task to keep.

    Reference:
        Pong et al. 2020, arXiv 1903.03698.
    """

    in_keys = (NEXT_ACHIEVED,)
    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(
        self, family: TaskFamily | None = None, fraction: float = 0.5, skew: Skew = _SKEW
    ) -> None:
        super().__init__()
        check_fraction(fraction)
        self.family, self.fraction, self.skew = family or GoalReaching(), fraction, skew
        self.goals: SkewedGoals | None = None

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What was reached, and what the family needs."""
        return (NEXT_ACHIEVED, *self.family.in_keys)

    def prepare(self, log: LogView) -> "SkewedGoal":
        """Return a copy that knows how rarely each place was reached.

        Args:
            log: The log.

        Returns:
            The bound relabeler.
        """
        other = self.bound()
        other.family, other.goals = self.family.prepare(log), self.skew.goals(log)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, and the reward and termination of every row's.

        Args:
            batch: TensorDict ``[..., B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows have no task to keep, or it was not prepared.
        """
        if self.goals is None:
            raise ValueError("SkewedGoal draws places of a log: call prepare")
        reached = self.goals.sample(fork(batch[DRAWS], "goal"))
        task = self.family.task_of(reached, fork(batch[DRAWS], "task"))
        if self.fraction < 1:
            chosen = uniform(batch[DRAWS], draw=1) < self.fraction
            task = torch.where(chosen.unsqueeze(-1), task, kept_task(batch, task))
        following = batch["next"].copy()
        following.set("reward", self.family.reward(batch, task))
        following.set("terminated", self.family.terminated(batch, task))
        return batch.copy().set("next", following).set("task", task)
