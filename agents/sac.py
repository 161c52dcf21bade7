"""Soft actor-critic (SAC): the best return among policies that keep an entropy.

    y    = r + gamma (1 - d) (min_k Q'_k(s', a') - alpha log pi(a' | s')),  a' ~ pi(s')
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ] / 2                                             (eq. 5)
    L_pi = E[ alpha log pi(a | s) - min_k Q_k(s, a) ],  a ~ pi(s)                       (eq. 7)
    L_al = -E[ log alpha (log pi(a | s) + target entropy) ]                            (eq. 18)

Q' are the target critics. For discrete actions expectations over a are sums, and exact. With a task
it learns from relabeled experience: beside ``FutureGoal`` it is HER, beside
``TransitionInverseRL`` it is HIPI-RL. Many critics are its ensembles: with a ``subset``
it is REDQ, whose policy climbs the mean of all, with ``diversity`` EDAC, whose L_Q becomes

    L_Q + diversity / 2 E[ sum_{i != j} cos(grad_a Q_i(s, a), grad_a Q_j(s, a)) / (N - 1) ]

Reference: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", arXiv 1812.05905;
discrete actions: Christodoulou 2019, arXiv 1910.07207; REDQ: Chen et al. 2021, arXiv 2101.05982;
EDAC: An et al. 2021, arXiv 2110.01548, algorithm 1.

Deviations:
- One joint step from the same parameters, where the authors' code steps one loss after the other;
  the terms touch disjoint networks, so only ages differ, by one update.
- L_al descends in log alpha with the factor log alpha in place of alpha, as all current code does.
- The log of the spread lies in [-5, 2], as that of every policy here; the authors' in [-20, 2].
- REDQ: every row has a subset of its own, where the paper draws one per update; the expected
  gradient is the same.

Update order: critics, and at every ``delay``-th update policy and temperature with them, then the
target critics. The online critics lead the actor, the target critics the critics.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.maths.losses import temperature_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic, Temperature
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import choices
from hindsight_rl.policies.critic_ensembles import (
    check_ensemble,
    climbed_value,
    slope_likeness,
    target_value,
)
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.training.policy_values import soft_actor_values


class SAC(Learner):
    """Soft actor-critic for bounded continuous and for discrete actions, with or without a task.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        subset: Number of critics, drawn for each row, whose minimum a target takes; the policy then
            climbs the mean of all. ``None`` for the minimum of all in both.
        diversity: Weight, at least 0, of the likeness of the critics' slopes at logged actions,
            for continuous actions; 0 for none.
        delay: Updates of the critics per update of the policy and of the temperature, at least 1.
        target_entropy: Entropy that the temperature holds, nats in policy units; ``None`` for minus
            the number of action dimensions, or 98 % of the largest for discrete actions.
        initial_temperature: alpha at the start, above 0.
        value_range: Smallest and largest value that rewards allow, to which targets are clipped:
            [-1 / (1 - discount), 0] for rewards of -1 and 0. What the entropy adds beyond them is
            cut; ``None`` for no clipping.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or continuous actions have no bounds.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    asymmetric = True
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        subset: int | None = None,
        diversity: float = 0.0,
        delay: int = 1,
        target_entropy: float | None = None,
        initial_temperature: float = 1.0,
        value_range: tuple[float, float] | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        check_ranges(above(0, initial_temperature=initial_temperature))
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(f"value_range is {list(value_range)}: the smallest value comes first")
        check_ensemble(critics, subset=subset, diversity=diversity)
        check_ranges(at_least(1, delay=delay), unit="updates")
        self.discount, self.tau, self.value_range = discount, tau, value_range
        self.subset, self.diversity = subset, diversity
        if delay > 1:
            self.every = dict.fromkeys(("actor", "temperature"), delay)
        self.actor = Policy(self.spec, network, head=Head("tanh_gaussian", spread="per_state"))
        if diversity and self.actor.discrete:
            raise ValueError(
                "SAC's diversity is for continuous actions, and these are discrete: leave it out, "
                "or set it to 0 (edac sets it)"
            )
        self.critic = Critic(self.critic_spec, network, members=critics)
        self.temperature = Temperature(initial_temperature)
        self.target_critic = self.follow(self.critic)
        if target_entropy is None:
            width = self.actor.width
            # Of n choices the largest entropy is log n.
            target_entropy = (
                0.98 * torch.tensor(width).log().item() if self.actor.discrete else -float(width)
            )
        self.target_entropy = target_entropy

    @property
    def noise(self) -> dict[str, int]:
        """Return what one action now and one next needs (not sums over discrete ones), and lots."""
        width = {} if self.actor.discrete else dict.fromkeys(("now", "next"), self.actor.width)
        return width if self.subset is None else width | {"lots": len(self.critic.members)}

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]`` (eq. 5)."""
        now = Transition(batch, self.discount)
        critic, noise = self.target_critic, now.noise_of(self.actor, "next")
        with torch.no_grad():
            ahead = choices(self.actor, critic, now.next_observation, now.task, noise)
            lots = None if self.subset is None else now.noise("lots")
            value = target_value(ahead.value, lots, subset=self.subset)
            next_value = ahead.mean(value) - self.temperature() * ahead.mean(ahead.log_prob)
        target = now.target(next_value)
        if self.value_range is not None:
            target = target.clamp(*self.value_range)
        q = now.values(self.critic)
        return 0.5 * (target - q).square().mean(-1).sum(), q.detach()

    def diversity_loss(self, batch: TensorDict) -> Tensor:
        """Return how alike the critics' slopes are, ``[]`` (EDAC, algorithm 1)."""
        now = Transition(batch)
        return slope_likeness(self.critic, now.observation, now.action, now.task).mean()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and minus its entropy ``[B]`` (eq. 7)."""
        now, critic = Transition(batch), frozen(self.critic)
        own = choices(
            self.actor, critic, now.observation, now.task, now.noise_of(self.actor, "now")
        )
        value, log_prob = climbed_value(own.value, self.subset), own.mean(own.log_prob)
        loss = self.temperature().detach() * log_prob - own.mean(value)
        return loss.mean(), log_prob.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic``, ``actor`` and ``temperature``."""
        critic, q = self.critic_loss(batch)
        actor, log_prob = self.actor_loss(batch)
        temperature = temperature_loss(self.temperature.log, log_prob, self.target_entropy)
        metrics = {
            "critic/q_max": q.abs().amax(),
            "actor/entropy": -log_prob.mean(),
            "temperature/alpha": self.temperature().detach(),
        }
        if self.diversity:
            alignment = self.diversity_loss(batch)
            # Half, as all of L_Q is.
            critic = critic + 0.5 * self.diversity * alignment
            metrics["critic/alignment"] = alignment.detach()
        terms = {"critic": critic, "actor": actor, "temperature": temperature.mean()}
        return LossTerms(terms, metrics)

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :func:`soft_actor_values` of this learner."""
        return soft_actor_values(self, batch, task, draws)
