"""Random tasks: the baseline of every other way to choose a task."""

from tensordict import TensorDict

from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import fork
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, recompute
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching, TaskFamily


class RandomTask(Relabeler):
    """The task is a draw of the family's prior, whatever the row.

    Args:
        family: The tasks; sparse goal reaching by default, whose prior is the states reached.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: ``fraction`` is out of range, or (in a batch) below 1 with no task to keep.

    Reference:
        A baseline of Eysenbach et al. 2020, arXiv 2002.11089.
    """

    out_keys = ("task", ("next", "reward"), ("next", "terminated"))

    def __init__(self, family: TaskFamily | None = None, fraction: float = 1.0) -> None:
        super().__init__()
        check_fraction(fraction)
        self.family, self.fraction = family or GoalReaching(), fraction

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """What the family needs for its prior and rewards."""
        return self.family.in_keys

    def prepare(self, log: LogView) -> "RandomTask":
        """Return a copy whose family knows its prior."""
        other = self.bound()
        other.family = self.family.prepare(log)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task, reward and termination."""
        task = self.family.sample(fork(batch[DRAWS], "task"))
        return recompute(batch, task, self.family, self.fraction)
