"""Conservative Q-learning (CQL): soft actor-critic whose critics value the log above all else.

    y    = r + gamma (1 - d) min_k Q'_k(s', a'),  a' ~ pi(s')
    gap  = log sum_j exp(Q_k(s, a_j) - log density(a_j)) - Q_k(s, a)
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ] / 2 + alpha' (weight E[gap] - threshold)        (eq. 4)
    L_pi = E[ alpha log pi(a | s) - min_k Q_k(s, a) ],  a ~ pi(s)
    L_al = -E[ log alpha (log pi(a | s) + target entropy) ]
    L_mu = -sum_k alpha' (weight E[gap] - threshold) / 2                (appendix F, Lagrange)

Q' are the target critics. The a_j are uniform, of pi(s') and of pi(s), as many of each, and all are
valued in s; nothing flows back to the policy through them. alpha' is 1 and the threshold 0 unless a
threshold is given.

Reference: Kumar, Zhou, Tucker and Levine 2020, "Conservative Q-learning for offline reinforcement
learning", arXiv 2006.04779, equation 4 and appendix F.

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

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.conservative import sampled_gap, uniform_actions
from hindsight_rl.maths.draws import normals
from hindsight_rl.maths.losses import multiplier_loss, temperature_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic, Temperature
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import several
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, bootstrap

RATES = {"actor": 1e-4, "temperature": 1e-4}
MAX_MULTIPLIER = 1e6


class CQL(Learner):
    """Soft actor-critic with critics held down wherever the log has no actions.

    Args:
        spec: What the data look like.
        hidden: Width of each hidden layer.
        frequencies: Of sines and cosines of the inputs, see :class:`Inputs`: for few numbers with
            edges, such as positions among walls.
        conservative_weight: At least 0, multiplies the gap; 0 is soft actor-critic.
        samples: Number of actions of each of the three kinds that estimate the gap.
        threshold: Weighted gap, at least 0, that a learned multiplier holds; ``None`` for no
            multiplier.
        deterministic_backup: Leave the entropy out of the critics' targets.
        cloning_updates: Updates, at the start, in which log-likelihood of the logged action stands
            in the place of value in the policy's loss.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        target_entropy: Entropy that the temperature holds, nats in policy units; ``None`` for minus
            the number of action dimensions.
        initial_temperature: alpha at the start, above 0.
        learning_rates: Rates of single networks by name, where they differ from the optimiser's.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or actions have no bounds.
    """

    in_keys = TRANSITION
    actions = ("continuous",)
    targets = {"target_critic": "critic"}
    cloned: Tensor
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        hidden: Sequence[int] = (256, 256, 256),
        frequencies: int = 0,
        conservative_weight: float = 5.0,
        samples: int = 10,
        threshold: float | None = None,
        deterministic_backup: bool = True,
        cloning_updates: int = 0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        target_entropy: float | None = None,
        initial_temperature: float = 1.0,
        learning_rates: dict[str, float] | None = RATES,
        **learner: Any,
    ) -> None:
        super().__init__(spec, learning_rates=learning_rates, **learner)
        if conservative_weight < 0 or samples < 1 or cloning_updates < 0:
            raise ValueError(
                f"conservative_weight {conservative_weight} and cloning_updates {cloning_updates} "
                f"must be at least 0 and samples {samples} at least 1"
            )
        if threshold is not None and threshold < 0:
            raise ValueError(f"threshold is {threshold}, it must be at least 0, or null for none")
        if not 0 <= discount <= 1 or not 0 < tau <= 1:
            raise ValueError(f"discount {discount} must lie in [0, 1] and tau {tau} in (0, 1]")
        if critics < 1:
            raise ValueError(f"critics is {critics}, it must be at least 1")
        if not initial_temperature > 0:
            raise ValueError(f"initial_temperature is {initial_temperature}, it must be above 0")
        self.conservative_weight, self.threshold = conservative_weight, threshold
        self.samples, self.deterministic_backup = samples, deterministic_backup
        self.cloning_updates, self.discount, self.tau = cloning_updates, discount, tau
        self.actor = Policy(
            self.spec, hidden, head="tanh_gaussian", spread="per_state", frequencies=frequencies
        )
        self.critic = Critic(self.spec, hidden, members=critics, frequencies=frequencies)
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
        task, noise, width = batch.get("task", None), batch["noise"], self.actor.width
        with torch.no_grad():
            uniform, density = uniform_actions(several(noise["uniform"], width))
            drawn = [(self.actor.scale.to_environment(uniform), density)]
            for name, observed in (("of_next", batch["next"]), ("of_now", batch)):
                numbers = several(noise[name], width)
                drawn.append(self.actor.draw(observed["observation"], numbers, task))
            action, log_density = (torch.cat(part) for part in zip(*drawn, strict=True))
        value = self.critic(batch["observation"], action, task)
        return sampled_gap(value.movedim(1, -1), log_density.movedim(0, -1), q)

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
        task, following = batch.get("task", None), batch["next", "observation"]
        with torch.no_grad():
            action, log_prob = self.actor.draw(following, batch["noise", "next"], task)
            next_value = self.target_critic(following, action, task).amin(0)
            if not self.deterministic_backup:
                next_value = next_value - self.temperature() * log_prob
        target = bootstrap(batch, next_value, self.discount)
        q = self.critic(batch["observation"], batch["action"], task)
        gap = self.gap(batch, q)
        conservative = (self.price().detach() * self.excess(gap)).sum()
        loss = 0.5 * (target - q).square().mean(-1).sum() + conservative
        return loss, q.detach(), gap.detach()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and log-probabilities ``[B]`` of its actions."""
        task, observation = batch.get("task", None), batch["observation"]
        action, log_prob = self.actor.draw(observation, batch["noise", "now"], task)
        value = frozen(self.critic)(observation, action, task).amin(0)
        if self.cloning_updates:
            logged = self.actor.log_prob(observation, batch["action"], task)
            value = torch.where(self.cloned < self.cloning_updates, logged, value)
            if self.training:
                self.cloned.copy_(self.cloned + 1.0)
        return (self.temperature().detach() * log_prob - value).mean(), log_prob.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic``, ``actor``, ``temperature`` and, with one, ``multiplier``.

        Args:
            batch: TensorDict ``[B]``; ``task`` and ``discount`` are used where they are there.

        Returns:
            Terms and metrics.
        """
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
        """Return what each row's transition is worth beyond its reward, under other tasks.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``.
            draws: ``[..., 3]`` int64 counters, for the next action.

        Returns:
            Log-probability of the logged action and value of the next state by the first online
            critic; the temperature.
        """
        following = batch["next", "observation"]
        log_prob = self.actor.log_prob(batch["observation"], batch["action"], task)
        action, _ = self.actor.draw(following, normals(draws, self.actor.width), task)
        next_value = self.critic(following, action, task, members=1).amin(0)
        return SoftValues(log_prob, next_value, self.temperature(), self.discount)
