"""Bonus of a model's disagreement: go where the members of an ensemble do not agree yet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.arguments import at_least, check_choices, check_ranges
from hindsight_rl.keys import ACTION, NEXT_OBSERVATION, OBSERVATION, REWARD
from hindsight_rl.maths.dynamics import gaussian_loss
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.maths.information import mean_disagreement, normal_gain
from hindsight_rl.nets.novelty import SeededEnsemble
from hindsight_rl.ports import Foresees, LogView
from hindsight_rl.relabel.bonus import Pay, Sign, check_learning, chosen_columns, standard
from hindsight_rl.relabel.learned import choices_of
from hindsight_rl.relabel.learned_bonus import LearnedBonus
from hindsight_rl.training.checkpoints.load import load_learner

ModelSource = str | Path | Foresees


class DisagreementBonus(LearnedBonus):
    """Adds how much an ensemble of models disagrees about what a step leads to.

    The ensemble is fitted beside the policy, one step of Adam for every update, or is that of a
    checkpoint of ``Dynamics``, which stays as it is. Where outcomes are noisy members agree in
    time, and the bonus goes: the error of one prediction would not.

    Args:
        coefficient: Of the bonus, at least 0; at 1 it is as large as returns of 1, at 0 rows stay
            as they are.
        keep: Factor of the reward that rows have, at least 0.
        sign: ``"bonus"`` where a policy collects; ``"penalty"`` keeps one that does not near the
            log.
        kind: ``"variance"`` of the members' means, averaged over the numbers of the observation;
            ``"information"``: 1/2 sum log(1 + epistemic / aleatoric), which counts it by the noise.
        model: Checkpoint of ``Dynamics``, from Python a model too; ``None`` fits an ensemble here.
        columns: Places of the observation whose change is foreseen; ``None`` for all. All are
            looked at.
        members: Of the ensemble that is fitted here, at least 2.
        hidden: Widths of their hidden layers.
        learning_rate: Of Adam, above 0.
        scale: Divide by the spread of the discounted sums of bonuses; else they are as they come.
        discount: Of these sums, in [0, 1).
        seed: Of the first weights.

    Raises:
        ValueError: An argument is out of range or none of its choices, the checkpoint is of no
            ensemble, or (``prepare``) columns are not there, or (``__call__``) rows are shared by
            processes or seeds.

    Reference:
        Pathak, Gandhi and Gupta 2019, arXiv 1906.04161; information: Houthooft et al. 2016, arXiv
        1605.09674, with an ensemble in the place of a Bayesian network.
    """

    in_keys = (OBSERVATION, ACTION, NEXT_OBSERVATION)
    out_keys = (REWARD,)
    adds_to_reward = True
    reads = (OBSERVATION, ACTION, NEXT_OBSERVATION)
    learned, settings = "ensemble of models", "members, hidden and columns"

    def __init__(
        self,
        coefficient: float = 1.0,
        keep: float = 1.0,
        sign: Sign = "bonus",
        kind: Literal["variance", "information"] = "variance",
        model: ModelSource | None = None,
        columns: Sequence[int] | None = None,
        members: int = 5,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 1e-3,
        scale: bool = True,
        discount: float = 0.99,
        seed: int = 0,
    ) -> None:
        super().__init__(Pay(coefficient, keep, sign, discount, scale))
        check_choices(DisagreementBonus.__init__, locals())
        check_learning(hidden, learning_rate)
        check_ranges(at_least(2, members=members))
        self.model = None if model is None else _opened(model)
        self.learns = self.model is None
        self.kind, self.places, self.members = kind, columns, members
        self.hidden, self.learning_rate, self.seed = tuple(hidden), learning_rate, seed
        self._choices, self._places = 0, [0]
        self._inputs = self._steps = (torch.empty(0), torch.empty(0))

    def prepare(self, log: LogView) -> "DisagreementBonus":
        """Return a copy with an ensemble at its first weights, or that of the checkpoint.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: Columns are not there.
        """
        other = self.bound()
        other._places = chosen_columns(log, OBSERVATION, self.places)
        if self.model is not None:
            return other._with_unit(log)
        other._choices = choices_of(log)
        observation, following = log.column(OBSERVATION), log.column(NEXT_OBSERVATION)
        action = log.column(ACTION)
        seen = [observation] if other._choices else [observation, action]
        other._inputs = standard(torch.cat(seen, dim=-1), log)
        other._steps = standard((following - observation)[:, other._places], log)
        width = len(other._inputs[0]) + other._choices
        net = SeededEnsemble(width, self.hidden, len(other._places), self.members, seed=self.seed)
        other._begin(net, self.learning_rate)
        return other._with_unit(log)

    def _loss(self, rows: TensorDict) -> Tensor:
        """Return the loss of rows, each member's by how often its bootstrap has the row."""
        step = (rows[NEXT_OBSERVATION] - rows[OBSERVATION])[..., self._places]
        mean, spread = (part.to(step.device) for part in self._steps)
        said, log_variance = self._said(rows)
        loss = gaussian_loss(said, log_variance, (step - mean) / spread).mean(-1)
        counts = episode_weights(rows["index"], self.members, "rows of a bonus")
        return (counts * loss).sum(0)

    def _bonus(self, rows: TensorDict) -> Tensor:
        mean, log_variance = self._said(rows)
        if self.kind == "variance":
            return mean_disagreement(mean)
        return normal_gain(mean, (0.5 * log_variance).exp())

    def _said(self, rows: TensorDict) -> tuple[Tensor, Tensor]:
        """Return means and log-variances ``[E, M, D]`` of the change of observations."""
        if self.model is not None:
            here, there = rows[OBSERVATION].device, getattr(self.model, "device", None)
            seen, done = (rows[key].to(there or here) for key in (OBSERVATION, ACTION))
            found = self.model.foresee(seen, done, self.model.initial_memory(len(rows)))
            mean, std = (said[..., self._places].to(here) for said in (found.mean, found.std))
            return mean, 2.0 * std.log()
        if self.net is None:
            raise RuntimeError("DisagreementBonus was not prepared")
        action, seen = rows[ACTION], [rows[OBSERVATION]]
        mean, spread = (part.to(action.device) for part in self._inputs)
        if not self._choices:
            seen.append(action)
        features = (torch.cat(seen, dim=-1) - mean) / spread
        if self._choices:
            chosen = torch.nn.functional.one_hot(action, self._choices).float()
            features = torch.cat([features, chosen], dim=-1)
        said: tuple[Tensor, Tensor] = self.net(features)
        return said


def _opened(source: ModelSource) -> Foresees:
    """Return the ensemble of a checkpoint, or the one that is given."""
    found = load_learner(str(source)) if isinstance(source, (str, Path)) else source
    if not isinstance(found, Foresees):
        raise ValueError(
            f"{source}: {type(found).__name__} is no ensemble of models: give a checkpoint of "
            "Dynamics (hindsight fit --config dynamics), or leave model out"
        )
    if isinstance(found, nn.Module):
        found.eval().requires_grad_(False)
    return found
