"""Conservative Q-learning (CQL): soft actor-critic whose critics value the log above all else.

    y    = r + gamma (1 - d) min_k Q'_k(s', a'),  a' ~ pi(s')
    gap  = log sum_j exp(Q_k(s, a_j) - log density(a_j)) - Q_k(s, a)
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ] / 2 + alpha' (weight E[gap] - threshold)        (eq. 4)
    L_pi = E[ alpha log pi(a | s) - min_k Q_k(s, a) ],  a ~ pi(s)
    L_al = -E[ log alpha (log pi(a | s) + target entropy) ]
    L_mu = -sum_k alpha' (weight E[gap] - threshold) / 2                (appendix F, Lagrange)

Q' are the target critics. The a_j are uniform, of pi(s') and of pi(s), as many of each, and all are
valued in s; nothing flows back to the policy through them. alpha' is 1 and the threshold 0 unless a
threshold is given. With ``push_down: origin`` it is COMBO: the sum over actions counts in imagined
rows alone, Q(s, a) in those that happened.

Reference: Kumar, Zhou, Tucker and Levine 2020, "Conservative Q-learning for offline reinforcement
learning", arXiv 2006.04779, equation 4 and appendix F; COMBO: Yu et al.
2021, arXiv 2102.08363, equation 2.

Deviations:
- One joint step from the same parameters, where the authors' code steps one loss after the other;
  the terms touch disjoint networks, so only ages differ, by one update.
- L_Q has the factor 1/2 of the paper, which the authors' code leaves out: its weight of 10 is 5
  here.
- The threshold is of the weighted gap, as in the authors' code; the paper's is of the plain one.
- Sampled actions are detached, which the authors' code leaves to the order of its steps.
- The policy does not start with cloning unless ``cloning_updates`` asks for it (the authors' code:
  40,000 updates).
- L_al descends in log alpha with the factor log alpha in place of alpha, as all current code does.
- The log of the spread lies in [-5, 2], as that of every policy here; the authors' in [-20, 2].

Update order: critics, policy and temperatures together, then the target critics. The online critics
lead the actor, the target critics the critics.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.keys import ORIGIN
from hindsight_rl.maths.conservative import sampled_gap
from hindsight_rl.maths.losses import multiplier_loss, temperature_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic, Temperature
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.gap_actions import gap_actions, gap_sides
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.training.policy_values import soft_actor_values

MAX_MULTIPLIER = 1e6


class CQL(Learner):
    """Soft actor-critic with critics held down wherever the log has no actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        conservative_weight: At least 0, multiplies the gap; 0 is soft actor-critic.
        push_down: ``"log"``: actions at large in every row; ``"origin"``: in imagined rows alone.
        samples: Number of actions of each of the three kinds that estimate the gap.
        threshold: Weighted gap, at least 0, that a learned multiplier holds; ``None`` for none.
        deterministic_backup: Leave the entropy out of the critics' targets.
        cloning_updates: Updates, at the start, in which log-likelihood of the logged action stands
            in the place of value in the policy's loss.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        target_entropy: Entropy that the temperature holds, nats in policy units; ``None`` for minus
            the number of action dimensions.
        initial_temperature: alpha at the start, above 0.
        **learner: Arguments of :class:`Learner`; ``learning_rates`` of ``actor`` and
            ``temperature`` are 1e-4 where they are not given.

    Raises:
        ValueError: An argument is out of range, or actions have no bounds.
    """

    in_keys = TRANSITION
    actions = ("continuous",)
    rates = {"actor": 1e-4, "temperature": 1e-4}
    targets = {"target_critic": "critic"}
    cloned: Tensor
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(256, 256, 256)),
        conservative_weight: float = 5.0,
        push_down: Literal["log", "origin"] = "log",
        samples: int = 10,
        threshold: float | None = None,
        deterministic_backup: bool = True,
        cloning_updates: int = 0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        target_entropy: float | None = None,
        initial_temperature: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        weights = {"conservative_weight": conservative_weight, "cloning_updates": cloning_updates}
        check_ranges(at_least(0, **weights), at_least(1, samples=samples))
        check_ranges(at_least(0, threshold=threshold), note=", or null for none")
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        check_ranges(above(0, initial_temperature=initial_temperature))
        self.conservative_weight, self.threshold = conservative_weight, threshold
        self.samples, self.by_origin = samples, push_down == "origin"
        self.in_keys = (*TRANSITION, ORIGIN) if self.by_origin else TRANSITION
        self.cloning_updates, self.deterministic_backup = cloning_updates, deterministic_backup
        self.discount, self.tau = discount, tau
        self.actor = Policy(self.spec, network, head=Head("tanh_gaussian", spread="per_state"))
        self.critic = Critic(self.spec, network, members=critics)
        self.temperature = Temperature(initial_temperature)
        if threshold is not None:
            self.multiplier = Temperature(1.0)
        self.target_critic = self.follow(self.critic)
        self.target_entropy = -float(self.actor.width) if target_entropy is None else target_entropy
        self.register_buffer("cloned", torch.zeros(()))

    @property
    def noise(self) -> dict[str, int]:
        """Return what one action now and one next needs, and the samples of each kind."""
        width = self.actor.width
        kinds = dict.fromkeys(("uniform", "of_next", "of_now"), self.samples * width)
        return dict.fromkeys(("now", "next"), width) | kinds

    def gap(self, batch: TensorDict, q: Tensor) -> Tensor:
        """Return by how much values at large exceed those of logged actions, both ``[E, B]``."""
        now = Transition(batch)
        states = {"of_next": now.next_observation, "of_now": now.observation}
        action, log_density = gap_actions(self.actor, states, now.task, batch["noise"])
        value = self.critic(now.observation, action, now.task)
        sides = gap_sides(batch, self.batch_mean) if self.by_origin else None
        return sampled_gap(value.movedim(1, -1), log_density.movedim(0, -1), q, sides)

    def excess(self, gap: Tensor) -> Tensor:
        """Return the weighted mean ``[E]`` of gaps ``[E, B]``, less the threshold."""
        return self.conservative_weight * gap.mean(-1) - (self.threshold or 0.0)

    def price(self) -> Tensor:
        """Return alpha', ``[]``, which the excess is multiplied by: 1 without a threshold."""
        if self.threshold is None:
            return torch.ones_like(self.temperature.log)
        price: Tensor = self.multiplier().clamp(max=MAX_MULTIPLIER)
        return price

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, their values and gaps ``[E, B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            following, noise = now.next_observation, batch["noise", "next"]
            action, log_prob = self.actor.draw(following, noise, now.task)
            next_value = self.target_critic(following, action, now.task).amin(0)
            if not self.deterministic_backup:
                next_value = next_value - self.temperature() * log_prob
        target = now.target(next_value)
        q = now.values(self.critic)
        gap = self.gap(batch, q)
        conservative = (self.price().detach() * self.excess(gap)).sum()
        loss = 0.5 * (target - q).square().mean(-1).sum() + conservative
        return loss, q.detach(), gap.detach()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and log-probabilities ``[B]`` of its actions."""
        now = Transition(batch)
        action, log_prob = self.actor.draw(now.observation, batch["noise", "now"], now.task)
        value = frozen(self.critic)(now.observation, action, now.task).amin(0)
        if self.cloning_updates:
            logged = now.log_prob(self.actor)
            value = torch.where(self.cloned < self.cloning_updates, logged, value)
            if self.training:
                self.cloned.copy_(self.cloned + 1.0)
        return (self.temperature().detach() * log_prob - value).mean(), log_prob.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic``, ``actor``, ``temperature`` and, with one, ``multiplier``."""
        critic, q, gap = self.critic_loss(batch)
        actor, log_prob = self.actor_loss(batch)
        temperature = temperature_loss(self.temperature.log, log_prob, self.target_entropy)
        metrics = {
            "critic/q_max": q.abs().amax(),
            "critic/gap": gap.mean(),
            "actor/entropy": -log_prob.mean(),
            "temperature/alpha": self.temperature().detach(),
        }
        terms = {"critic": critic, "actor": actor, "temperature": temperature.mean()}
        if self.threshold is not None:
            multiplier = multiplier_loss(self.price(), self.excess(gap), limit=0.0)
            terms["multiplier"] = 0.5 * multiplier.sum()
            metrics["multiplier/alpha"] = self.price().detach()
        return LossTerms(terms, metrics)

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :func:`soft_actor_values` of this learner."""
        return soft_actor_values(self, batch, task, draws)
