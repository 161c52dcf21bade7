"""Skills without a reward: DIAYN, whose discriminator is the posterior over skills."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges
from hindsight_rl.keys import DRAWS, NEXT_OBSERVATION, REWARD, TASK
from hindsight_rl.maths.skills import skill_reward
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.bonus import check_learning, chosen_columns
from hindsight_rl.relabel.learned_posterior import LearnedPosterior


class DIAYN(LearnedPosterior):
    """The reward is how well the skill that was followed can be told from where the step led.

    log q(z | s') - log p(z): a skill is a task of the posterior over tasks, which is learned here
    from rows whose task is known, one step of Adam for every update. ``collection.command`` OneOf
    draws a skill for every episode; rows keep theirs. The mean reward is a bound on what outcomes
    say of skills, at most log K nats: ``skill_bound`` is its share.

    Skills differ in whatever is looked at: name the columns that matter, such as the place of the
    body, or they differ in how joints twitch. The policy is a start for a task of its own
    (``weights_from``).

    Args:
        coefficient: Of log q(z | s') - log p(z), at least 0.
        keep: Factor of the reward that rows have, at least 0.
        columns: Places of the next observation that are looked at; ``None`` for all.
        hidden: Widths of the hidden layers of q.
        learning_rate: Of Adam, above 0.
        seed: Of the first weights.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) columns are not there, or tasks
            are not one of K, or (``__call__``) rows are shared by processes or seeds.

    Reference:
        Eysenbach et al. 2019, arXiv 1802.06070, eq. 3; p(z) is not learned, or it collapses.
    """

    in_keys = (NEXT_OBSERVATION, TASK)
    out_keys = (REWARD,)
    learned, settings = "discriminator of skills", "columns and hidden"
    of_own_task = True

    def __init__(
        self,
        coefficient: float = 1.0,
        keep: float = 0.0,
        columns: Sequence[int] | None = None,
        hidden: Sequence[int] = (256, 256),
        learning_rate: float = 3e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_ranges(at_least(0, coefficient=coefficient, keep=keep))
        check_learning(hidden, learning_rate)
        self.coefficient, self.keep, self.places = coefficient, keep, columns
        self.adds_to_reward = keep > 0
        self.hidden, self.learning_rate, self.seed = tuple(hidden), learning_rate, seed
        self._places: list[int] = []
        self._log_prior = torch.empty(0)
        self._seen_updates = 0

    @property
    def updates(self) -> int:
        """Updates seen."""
        return self._seen_updates

    def prepare(self, log: LogView) -> "DIAYN":
        """Return a copy with a discriminator at its first weights.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: Columns are not there, or tasks are not one of K.
        """
        other, task = self.bound(), log.column(TASK)
        if not bool(_followed(task)[(task != 0).any(-1)].all()):
            raise ValueError(
                "DIAYN tells skills apart, one of K by a one-hot task, and this log has other "
                "tasks: set collection.command to OneOf, or map the column of the skill to 'task'"
            )
        other._places = chosen_columns(log, NEXT_OBSERVATION, self.places)
        seen = log.column(NEXT_OBSERVATION)[log.drawable()][:, other._places]
        count = task.shape[1]
        other._log_prior = torch.full((count,), 1.0 / count).log()
        other._begin_posterior(seen, count, self.hidden, self.learning_rate, self.seed)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with the reward of its skills.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by processes or seeds.
        """
        if self.coefficient == 0 and self.keep == 1:
            return batch
        teaching, numbers = self._teaching(batch), batch[DRAWS][:, 0, 1].tolist()
        inputs, task = batch[NEXT_OBSERVATION][..., self._places], batch[TASK]
        followed = _followed(task)
        found, divergence = [], torch.zeros((), device=task.device)
        for k, (teaches, number) in enumerate(zip(teaching, numbers, strict=True)):
            if teaches:
                self._seen_updates = number + 1
                if bool(followed[k].any()):
                    divergence = self._learn(inputs[k][followed[k]], task[k][followed[k]])
            with torch.no_grad():
                found.append(skill_reward(self._log_q(inputs[k]), task[k], self._prior(task)))
        skilled = torch.stack(found)
        bound = skilled[followed].mean() / -self._log_prior[0] if followed.any() else skilled.mean()
        self.metrics = {"skill_bound": bound, "skill_divergence": divergence}
        reward = self.keep * batch[REWARD] + self.coefficient * skilled
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    def _prior(self, task: Tensor) -> Tensor:
        return self._log_prior.to(task.device)

    def _further_state(self) -> dict[str, Any]:
        """Return the number of updates, and what numbers are standardised by."""
        return {"updates": self._seen_updates, **self._inputs_state()}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        self._seen_updates = int(state["updates"])
        self._load_inputs_state(state)


def _followed(task: Tensor) -> Tensor:
    """Return which tasks ``[..., K]`` are one-hot."""
    return ((task == 1).sum(-1) == 1) & ((task != 0).sum(-1) == 1)
