"""What several fitted rewards say of every step: features of the tasks that they mean."""

from collections.abc import Sequence

import torch

from hindsight_rl.keys import Key
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned_reward import LEAST_ACCURACY, LearnedReward, RewardSource
from hindsight_rl.relabel.relabeler import Relabeler

LEARNED_REWARDS: Key = "learned_rewards"
"""``[N, M]``: the rewards of M models side by side."""


class LearnedFeatures(Relabeler):
    """Adds ``learned_rewards``, the reward of each of several models, standardised over the log.

    With ``LinearTasks`` on that column every annotator, or every demonstrator, is a task, and so is
    every weighting of them. ``InverseRL`` behind it then answers whose preferences an episode
    serves, and a policy that is cloned takes the annotator as its task.

    Args:
        models: Path of a checkpoint for each of M rewards; from Python models too, see
            :class:`LearnedReward`.
        least_accuracy: Of each model on held-out answers, in [0, 1]; 0 takes any.

    Raises:
        ValueError: There are none, one cannot be read, is of no model of rewards or knows held-out
            answers too badly, or (``prepare``) it is of another kind of log.
    """

    out_keys = (LEARNED_REWARDS,)

    def __init__(
        self, models: Sequence[RewardSource], least_accuracy: float = LEAST_ACCURACY
    ) -> None:
        super().__init__()
        if isinstance(models, str) or not len(models):
            raise ValueError(f"models is {models!r}: give a list of at least one checkpoint")
        self.rewards = [LearnedReward(one, least_accuracy=least_accuracy) for one in models]

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """Columns that the models are shown."""
        return tuple(dict.fromkeys(key for one in self.rewards for key in one.prepare_reads))

    def prepare(self, log: LogView) -> "LearnedFeatures":
        """Return a copy that carries the rewards.

        Args:
            log: The log, of the kind that the models were fitted to.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: The log is of another kind, or a model gives numbers that are not finite.
        """
        columns = [one.given(log) for one in self.rewards]
        return self.bound(columns={LEARNED_REWARDS: torch.stack(columns, dim=-1)})
