"""Batch-constrained Q-learning (BCQ): Q-learning over actions that a model of the log proposes.

    L_G  = E[ |a - D(s, z)|^2 / A + kl_weight KL(E(s, a) || N(0, 1)) / L ],   z ~ E(s, a)
    y    = r + gamma (1 - d) max_i [ w min_k Q'_k(s', a_i) + (1 - w) max_k Q'_k(s', a_i) ]
    a_i  = b_i + xi'(s', b_i),   b_i = D(s', z_i),   z_i ~ N(0, 1) clipped,   i = 1 ... 10
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ]
    L_xi = -E[ Q_1(s, b + xi(s, b)) ],   b = D(s, z),   |xi| <= Phi

E and D are encoder and decoder of the model, Q' and xi' the target networks. The policy decodes 100
actions, perturbs them, and takes the one with the largest Q_1. Actions and errors are in policy
units, [-1, 1] per dimension.

Reference: Fujimoto, Meger and Precup 2019, "Off-policy deep reinforcement learning without
exploration", arXiv 1812.02900, algorithm 1; means and weights of L_G as in the authors' code.

Deviations:
- One joint step from the same parameters, where the authors' code steps model, critics and
  perturbation one after the other; the terms touch disjoint networks, so only ages differ, by one
  update.
- The deterministic policy decodes the same 100 latent vectors in every state, so that it can be
  exported; the authors draw them anew, and so does this one where draws are given. It chooses in
  float64, so that every runtime chooses alike.

Update order: model, critics and perturbation together, then both targets. The target critics and
the target perturbation make the target, the first online critic leads the perturbation and acts.
"""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_bootstrap, check_ranges, within
from hindsight_rl.maths.batch_constrained import soft_clipped_minimum
from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import LatentNetwork, Network
from hindsight_rl.nets.proposals import CVAE, Perturbation
from hindsight_rl.policies.action_values import several
from hindsight_rl.policies.proposals import best_proposed, proposed
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class BCQ(Learner):
    """Take the best of the actions that a model of the log proposes, each moved a little.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers of critics and perturbation, see :class:`Network`.
        behavior: Those of the model of the log, and its latent numbers: :class:`LatentNetwork`.
        kl_weight: Weight of the divergence per latent number, at least 0, against the squared error
            per action dimension.
        max_perturbation: Phi, largest move of a proposed action, policy units, at least 0.
        min_weight: w in [0, 1], of the least of the critics in a target; the rest is that of the
            largest.
        target_samples: Actions proposed in each next state, at least 1.
        samples: Actions proposed where the policy acts, at least 1.
        discount: In [0, 1].
        tau: Share of the way the target networks move per update, in (0, 1].
        critics: Number of critics whose minimum and maximum are mixed.
        optimizer: Builds the optimiser; the paper's rate is 1e-3.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or actions have no bounds.
    """

    in_keys = TRANSITION
    targets = {"target_actor": "actor", "target_critic": "critic"}
    actions = ("continuous",)
    actor: Perturbation

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(400, 300)),
        behavior: LatentNetwork = LatentNetwork(hidden=(750, 750)),
        kl_weight: float = 0.5,
        max_perturbation: float = 0.05,
        min_weight: float = 0.75,
        target_samples: int = 10,
        samples: int = 100,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3, fused=True),
        **learner: Any,
    ) -> None:
        super().__init__(spec, optimizer=optimizer, **learner)
        check_ranges(at_least(1, target_samples=target_samples, samples=samples))
        check_ranges(at_least(0, kl_weight=kl_weight, max_perturbation=max_perturbation))
        check_ranges(within("[0, 1]", min_weight=min_weight))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.kl_weight, self.min_weight = kl_weight, min_weight
        self.target_samples, self.discount, self.tau = target_samples, discount, tau
        self.behavior = CVAE(self.spec, behavior, samples=samples)
        self.actor = Perturbation(self.spec, network, limit=max_perturbation)
        if not self.actor.scale.bounded:
            raise ValueError(
                "BCQ needs action bounds: give action_low and action_high in the column map "
                "(--data.columns)"
            )
        self.critic = Critic(self.spec, network, members=critics)
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return what encoding an action, one proposal now, and those of the next state need."""
        latent = self.behavior.latent
        return {"behavior": latent, "now": latent, "next": self.target_samples * latent}

    def behavior_loss(self, batch: TensorDict) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the model of the log, ``[]``, and its two parts."""
        now = Transition(batch)
        action = self.actor.scale.to_policy(now.action)
        code = self.behavior.encode(now.observation, action, now.task)
        latent, _ = code.act_on(batch["noise", "behavior"])
        error = (action - self.behavior(now.observation, latent, now.task)).square().mean()
        # Per latent number, as the error is per dimension: the authors' mean.
        divergence = standard_normal_kl(code.mean, code.log_std).mean() / self.behavior.latent
        metrics = {"behavior/error": error.detach(), "behavior/kl": divergence.detach()}
        return error + self.kl_weight * divergence, metrics

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        now = Transition(batch, self.discount)
        model, actor, noise = self.behavior, self.target_actor, batch["noise", "next"]
        with torch.no_grad():
            latent = model.clip(several(noise, model.latent))
            action = proposed(model, actor, now.next_observation, latent, now.task)
            value = self.target_critic(now.next_observation, action, now.task)
            next_value = soft_clipped_minimum(value, min_weight=self.min_weight).amax(0)
        target = now.target(next_value)
        return now.regress(self.critic, target)

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return the loss of the perturbation, ``[]``."""
        now = Transition(batch)
        latent = self.behavior.clip(batch["noise", "now"])
        action = proposed(self.behavior, self.actor, now.observation, latent, now.task)
        return -frozen(self.critic)(now.observation, action, now.task, members=1).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``behavior``, ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        behavior, metrics = self.behavior_loss(batch)
        critic, q = self.critic_loss(batch)
        actor = self.actor_loss(batch)
        metrics |= {"critic/q_max": q.abs().amax()}
        return LossTerms({"behavior": behavior, "critic": critic, "actor": actor}, metrics)

    def best(self, observation: Observation, latent: Tensor, task: Tensor | None) -> Tensor:
        """Return the best ``[N, A]`` of the actions that latent vectors ``[m, N, L]`` make."""
        networks = (self.behavior, self.actor, self.critic)
        return best_proposed(*networks, observation, latent, task)[0]

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the best of the actions that the kept latent vectors propose, ``[N, A]``."""
        return self.decide(observation, task, {}).action

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the best of the actions proposed, with the values of all: :meth:`Acts.decide`."""
        latent = self.behavior.latents.unsqueeze(1).expand(-1, rows_of(observation), -1)
        networks = (self.behavior, self.actor, self.critic)
        action, value = best_proposed(*networks, observation, latent, task)
        return Decision(action, {}, value)

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return the best of fresh proposals where draws are given, see :meth:`Learner.act`."""
        if draws is None:
            return super().act(observation, task)
        noise = normals(draws, self.behavior.latents.numel())
        latent = self.behavior.clip(several(noise, self.behavior.latent))
        return self.best(observation, latent, task)
