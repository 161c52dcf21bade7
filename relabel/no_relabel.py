"""The tasks of the log as they are."""

from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler


class NoRelabel(Relabeler):
    """The task is the one the log gives: the baseline without hindsight.

    It changes nothing; a log without tasks is refused.

    Raises:
        ValueError: (``prepare``) The log has no task.
    """

    in_keys = ("task",)

    def prepare(self, log: LogView) -> "NoRelabel":
        """Return a copy, if the log has tasks.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: It has none.
        """
        if "task" not in log:
            raise ValueError(
                "NoRelabel keeps the tasks of the log, and the log has no 'task': map the "
                "commanded task to 'task', or take a relabeler that finds one (FutureGoal, "
                "InverseRL, RandomTask)"
            )
        return self.bound()
