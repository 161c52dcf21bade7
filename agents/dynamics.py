"""Dynamics: a model of what follows an action, as an ensemble of normal distributions (PETS).

    x = (s, a),  y = (s' - s, r), both standardised over the log
    L = sum_e E[ w_e mean_d( (mu_ed - y_d)^2 exp(-lv_ed) + lv_ed ) ]
        + .01 sum_d(high_d - low_d) + sum_l k_l |W_l|^2 / 2                            (eq. 1)
    lv is drawn softly into [low, high], which are learned                             (A.1)

E members, each fitted to a bootstrap, w_e ~ Poisson(1): where they disagree, the log does not say
what happens. Imagined steps are drawn from an elite, one of those with the least error on held-out
episodes, chosen anew for every row and step (TS1). Endings are learned from s, a and s', or given.

Reference: Chua, Calandra, McAllister and Levine 2018, "Deep reinforcement learning in a handful of
trials using probabilistic dynamics models", arXiv 1805.12114; elites, sizes and learned rewards:
Janner, Fu, Zhang and Levine 2019 (MBPO), arXiv 1906.08253.

Deviations:
- Outcomes are standardised too: otherwise one loss weighs metres against rewards.
- Elites are chosen on held-out episodes; there on rows, whose neighbours were trained on.
- Members resample by Poisson weights of row numbers, the same in every batch and process.
- Imagined steps stay within the log's range and a margin: else one bad member carries a plan away.
- Terminations have a network of their own, positive rows counting more and its odds corrected.

Update order: ensemble and terminations together; they share nothing.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import Callback
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_choices, check_ranges, within
from hindsight_rl.keys import (
    ACTION,
    COUNTS,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    Key,
)
from hindsight_rl.maths.dynamics import Uncertainty, disagreement, gaussian_loss
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.dynamics import DECAY, GaussianEnsemble, Outcomes
from hindsight_rl.nets.ending import Ending, GivenEnding
from hindsight_rl.nets.foresight import foreseen
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Foreseen, Imagined, Model
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.elites import JudgeMembers
from hindsight_rl.training.learner import Learner, LossTerms, Transition
from hindsight_rl.training.step_statistics import StepStatistics

Bootstrap = Literal["rows", "episodes", "none"]


class Dynamics(Learner):
    """A probabilistic ensemble of what follows an action: next observation, reward, termination.

    Args:
        spec: What the data look like; the task is not looked at.
        network: Inputs and hidden layers, see :class:`Network`.
        members: Number of members, E.
        elites: How many of them imagine, in [1, E]; all do where no episodes are held out.
        uncertainty: What an imagined step's disagreement is, in standardised units, see
            :mod:`hindsight_rl.maths.dynamics`.
        termination: ``"learned"``, from the log; ``"module:function"`` of (observation, action,
            next observation), ``[..., O]``, ``[..., A]`` and ``[..., O]`` tensors, to ``[...]``
            bool, whose module is imported; ``"none"`` where no episode ends by itself.
        angles: Places of (cosine, sine) pairs in the observation: they stay on the circle.
        margin: Share of the log's range by which imagined observations may leave it, at least 0.
        weight_decay: Of each layer, from the first to the last, at least 0; stretched evenly where
            the network has more or fewer.
        bootstrap: What each member draws of its own: ``"rows"``, ``"episodes"``, or ``"none"``.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, the observation is no flat vector, or (before the
            first update) no row of the log is terminated, and terminations are to be learned.
    """

    acts = False
    not_exported = (
        "it predicts what follows actions and chooses none; plan with it, or fit a policy to what "
        "it imagines, and export that"
    )
    rates = {"ensemble": 1e-3}
    in_keys: tuple[Key, ...] = (OBSERVATION, ACTION, NEXT_OBSERVATION, REWARD)
    optional_keys = ()
    elite: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(200, 200, 200, 200)),
        members: int = 7,
        elites: int = 5,
        uncertainty: Uncertainty = "ensemble_std",
        termination: str = "learned",
        angles: tuple[tuple[int, int], ...] = (),
        margin: float = 0.1,
        weight_decay: tuple[float, ...] = DECAY,
        bootstrap: Bootstrap = "rows",
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_choices(Dynamics.__init__, locals())
        check_ranges(at_least(1, members=members))
        check_ranges(within(f"[1, {members}]", elites=elites), note=", the members")
        check_ranges(at_least(0, margin=margin, weight_decay=weight_decay))
        self.elites, self.uncertainty, self.bootstrap = elites, uncertainty, bootstrap
        self.weight_decay = tuple(weight_decay) or (0.0,)
        self.ensemble = GaussianEnsemble(self.spec, network, members=members)
        self.outcomes = Outcomes(self.spec.vector.width, angles, margin)
        learned = termination == "learned"
        self.ending = Ending(self.spec, network) if learned else GivenEnding(termination)
        self.in_keys += (TERMINATED,) if learned else ()
        self.register_buffer("elite", torch.ones(members))
        self.log_pass = StepStatistics(self.ending.take, self.outcomes.take)

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read, with how often each member counts a row."""
        return (*super().read_keys, COUNTS)

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with how often each member counts its rows, see :class:`Learner`."""
        found = super().complete(batch, seed).copy()
        unit = found[EPISODE if self.bootstrap == "episodes" else "index"]
        counts = episode_weights(unit, len(self.elite), f"{self.bootstrap} of a model")
        counts = counts.movedim(0, -1)
        return found.set(COUNTS, torch.ones_like(counts) if self.bootstrap == "none" else counts)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``ensemble`` and, if learned, ``ending``; held-out rows count once."""
        now = Transition(batch)
        mean, log_variance, y = self.judged(batch)
        loss = gaussian_loss(mean, log_variance, y).mean(-1)
        counts = batch[COUNTS].movedim(-1, 0) if self.training else torch.ones_like(loss)
        regular = 0.01 * self.ensemble.width_of_bounds() + self.ensemble.decay(self.weight_decay)
        terms = {"ensemble": (counts * loss).mean(-1).sum() + regular}
        said, std = mean.detach(), (0.5 * log_variance.detach()).exp()
        metrics = {
            "ensemble/mse": (said.mean(0) - y).square().mean(),
            "ensemble/nll": 0.5 * (loss.detach().mean() + math.log(2.0 * math.pi)),
            "ensemble/std": std.mean(),
            "ensemble/disagreement": disagreement(said, std, self.uncertainty).mean(),
        }
        if isinstance(self.ending, Ending):
            step = now.observation, now.action, now.next_observation
            error, chance = self.ending.loss(*step, now.terminated)
            terms["ending"], ended = error.mean(), now.terminated.float()
            metrics |= {"ending/predicted": chance.mean(), "ending/terminated": ended.mean()}
        return LossTerms(terms, metrics)

    def judged(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return means and log-variances of steps, ``[E, B, D]``, and what came, ``[B, D]``."""
        now = Transition(batch)
        said = self.ensemble(now.observation, now.action)
        y = self.outcomes.standardised(now.observation, now.next_observation, now.reward)
        return said.mean, said.log_variance, y

    def configure_callbacks(self) -> list[Callback]:
        """Return what chooses the elites."""
        return [JudgeMembers()]

    def initial_memory(self, n: int) -> dict[str, Tensor]:
        """Return nothing: a step is all that the next depends on."""
        return {}

    def foresee(
        self,
        observation: Tensor,
        action: Tensor,
        memory: dict[str, Tensor],
        draws: Tensor | None = None,
    ) -> Foreseen:
        """Return what follows actions, and what members say: see ``Foresees`` of the ports."""
        said = self.ensemble(observation, action)
        return foreseen(self, said, observation, action, draws)

    def imagine(self, observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        """Return what follows actions: a :class:`hindsight_rl.ports.Model`.

        Args:
            observation: ``[..., O]``, units of the environment.
            action: ``[..., A]`` in environment units, or ``[...]`` int64 from 0.
            draws: ``[..., 3]`` int64 counters, broadcast against the rows; ``None`` for the mean of
                the elites, and the likelier ending.

        Returns:
            ``[..., O]`` and ``[...]``.
        """
        return self.foresee(observation, action, {}, draws).imagined

    def each_elite(self) -> list[Model]:
        """Return the elites, each as a model of its own; they disagree as the ensemble does."""
        alone = torch.eye(len(self.elite), device=self.elite.device)[self.elite > 0]
        return [partial(self._imagined, member) for member in alone]

    def _imagined(
        self, elite: Tensor, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        said = self.ensemble(observation, action)
        return foreseen(self, said, observation, action, draws, elite).imagined
