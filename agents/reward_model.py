"""RewardModel: a reward learned from comparisons of segments (Bradley-Terry), by an ensemble.

    P_e(2 better than 1) = sigma( sum_t r_e(s_t, a_t; 2) - sum_t r_e(s_t, a_t; 1) )         (eq. 1)
    L = -E[ w_e ( y log P_e + (1 - y) log(1 - P_e) ) ],   y: probability that 2 is better    (3.2.3)

E members with weights of their own, each fitted to a bootstrap of the answers, w_e ~ Poisson(1) per
answer: where they disagree, the answers do not say what is good. Only differences of rewards are
learned: a constant in every step changes nothing.

Reference: Christiano et al. 2017, "Deep reinforcement learning from human preferences", arXiv
1706.03741; r = tanh(...) and sizes: Lee, Smith and Abbeel 2021 (PEBBLE), arXiv 2106.05091.

Deviations:
- Answers are resampled by Poisson weights of their numbers, the same in every batch and process.
- Held-out answers and the metrics count every answer once, for the mean of the members' margins.

Update order: all members at once.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.keys import COUNTS, FIRST, PAIR, PREFERENCE, SECOND, Key
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.maths.preferences import (
    calibration_error,
    disagreement,
    pair_accuracy,
    preference_loss,
    segment_sum,
)
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import COMPARISON, COMPARISON_TASKS, Learner, LossTerms

FEWEST = 3


class RewardModel(Learner):
    """An ensemble of rewards r(s, a), fitted to which of two segments is better.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        members: Number of rewards, E; fewer than 3 need ``few``.
        few: Allow fewer than 3 members, whose disagreement says nothing.
        bounded: End in tanh: no step is worth more than 1 or less than -1.
        random_answers: Share of answers, in [0, 1), that are thought to be given by chance.
        discount: Of rewards within a segment, in [0, 1].
        bootstrap: Have each member count answers by draws of its own; all alike if not.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or there are too few members.

    Attributes:
        accuracy: Share of held-out answers whose better segment it finds, in [0, 1], as validated
            last; ``None`` where it never was. Checkpoints carry it.
    """

    acts = False
    not_exported = "it judges steps and fits no policy; LearnedReward applies it to a log"
    in_keys = COMPARISON
    optional_keys = COMPARISON_TASKS
    reward: Critic

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(256, 256, 256)),
        members: int = 3,
        few: bool = False,
        bounded: bool = True,
        random_answers: float = 0.0,
        discount: float = 1.0,
        bootstrap: bool = True,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(1, members=members))
        check_ranges(
            within("[0, 1)", random_answers=random_answers), within("[0, 1]", discount=discount)
        )
        if members < FEWEST and not few:
            raise ValueError(
                f"members is {members}: fewer than {FEWEST} cannot say where answers leave the "
                "reward open, and a policy will find such places. Give 3, or set few to true"
            )
        self.bounded, self.random_answers, self.discount = bounded, random_answers, discount
        self.bootstrap = bootstrap
        self.accuracy: float | None = None
        self.reward = Critic(self.spec, network, members=members)

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read, with how often each member counts an answer."""
        return (*super().read_keys, COUNTS)

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with how often each member counts its answers, see :class:`Learner`."""
        found = super().complete(batch, seed).copy()
        counts = episode_weights(found[PAIR], len(self.reward.members), "pair weights")
        counts = counts.movedim(0, -1)
        return found.set(COUNTS, counts if self.bootstrap else torch.ones_like(counts))

    def on_validation_epoch_end(self) -> None:
        """Report the means over held-out answers, and keep the accuracy."""
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.accuracy = self.latest.get("validation/reward/accuracy")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the accuracy."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hindsight"]["accuracy"] = self.accuracy

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the accuracy."""
        super().on_load_checkpoint(checkpoint)
        self.accuracy = self._saved.get("accuracy")

    @property
    def takes_task(self) -> bool:
        """Return whether rewards depend on the task of the row."""
        return self.spec.task is not None

    def rewards(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return what every member gives for steps.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[E, ...]``.
        """
        found: Tensor = self.reward(observation, action, task)
        return torch.tanh(found) if self.bounded else found

    def margins(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the sums of both segments by each member, ``[E, B]`` each.

        Args:
            batch: TensorDict ``[B]`` of pairs.

        Returns:
            Of the first and of the second.
        """
        sums = []
        for part in (FIRST, SECOND):
            task = batch.get((part, "task"), None)
            value = self.rewards(batch[part, "observation"], batch[part, "action"], task)
            sums.append(segment_sum(value, self.discount))
        return sums[0], sums[1]

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``reward``; held-out answers count once each.

        Args:
            batch: TensorDict ``[B]`` of pairs.

        Returns:
            The term, and how well the ensemble knows the answers.
        """
        first, second = self.margins(batch)
        label = batch[PREFERENCE]
        loss = preference_loss(first, second, label.expand_as(first), noise=self.random_answers)
        counts = batch[COUNTS].movedim(-1, 0) if self.training else torch.ones_like(loss)
        margin = (second - first).detach()
        metrics = {
            "reward/accuracy": pair_accuracy(margin.mean(0), label),
            "reward/accuracy_min": pair_accuracy(margin, label).amin(),
            "reward/calibration_error": calibration_error(torch.sigmoid(margin).mean(0), label),
            "reward/disagreement": disagreement(margin).mean(),
            "reward/second_better": label.mean(),
        }
        return LossTerms({"reward": (counts * loss).mean()}, metrics)
