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

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.batch_constrained import soft_clipped_minimum
from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.proposals import CVAE, Perturbation, beside, outputs
from hindsight_rl.policies.action_values import best_of, several
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, bootstrap


class BCQ(Learner):
    """Take the best of the actions that a model of the log proposes, each moved a little.

    Args:
        spec: What the data look like.
        hidden: Width of each hidden layer of critics and perturbation.
        frequencies: Of sines and cosines of the inputs, see :class:`Inputs`: for few numbers with
            edges, such as positions among walls.
        behavior_hidden: Width of each hidden layer of the model of the log.
        latent: Latent numbers of the model, at least 1; ``None`` for two per action dimension.
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
        hidden: Sequence[int] = (400, 300),
        frequencies: int = 0,
        behavior_hidden: Sequence[int] = (750, 750),
        latent: int | None = None,
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
        width = self.spec.action.width
        latent = 2 * width if latent is None else latent
        if latent < 1 or target_samples < 1 or samples < 1:
            raise ValueError(
                f"latent {latent}, target_samples {target_samples} and samples {samples} must be "
                "at least 1"
            )
        if kl_weight < 0 or max_perturbation < 0:
            raise ValueError(
                f"kl_weight {kl_weight} and max_perturbation {max_perturbation} must be at least 0"
            )
        if not 0 <= min_weight <= 1:
            raise ValueError(f"min_weight is {min_weight}, it must lie in [0, 1]")
        if not 0 <= discount <= 1 or not 0 < tau <= 1:
            raise ValueError(f"discount {discount} must lie in [0, 1] and tau {tau} in (0, 1]")
        if critics < 1:
            raise ValueError(f"critics is {critics}, it must be at least 1")
        self.kl_weight, self.min_weight = kl_weight, min_weight
        self.target_samples, self.discount, self.tau = target_samples, discount, tau
        self.behavior = CVAE(
            self.spec, behavior_hidden, latent=latent, samples=samples, frequencies=frequencies
        )
        self.actor = Perturbation(
            self.spec, hidden, limit=max_perturbation, frequencies=frequencies
        )
        if not self.actor.scale.bounded:
            raise ValueError(
                "BCQ needs action bounds: give action_low and action_high in the column map "
                "(--data.columns)"
            )
        self.critic = Critic(self.spec, hidden, members=critics, frequencies=frequencies)
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return what encoding an action, one proposal now, and those of the next state need."""
        latent = self.behavior.latent
        return {"behavior": latent, "now": latent, "next": self.target_samples * latent}

    def proposed(
        self, actor: Perturbation, observation: Tensor, latent: Tensor, task: Tensor | None
    ) -> Tensor:
        """Return actions of the model, moved; differentiable in the perturbation alone.

        Args:
            actor: The perturbation, or its target.
            observation: ``[B, O]``.
            latent: ``[..., B, L]``, clipped.
            task: ``[B, Z]`` where the spec has a task.

        Returns:
            ``[..., B, A]`` in environment units.
        """
        with torch.no_grad():
            decoded = self.behavior(observation, latent, task)
        return actor.scale.to_environment(actor(observation, decoded, task))

    def behavior_loss(self, batch: TensorDict) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the model of the log, ``[]``, and its two parts."""
        observation, task = batch["observation"], batch.get("task", None)
        action = self.actor.scale.to_policy(batch["action"])
        code = self.behavior.encode(observation, action, task)
        latent, _ = code.act_on(batch["noise", "behavior"])
        error = (action - self.behavior(observation, latent, task)).square().mean()
        # Per latent number, as the error is per dimension: the authors' mean.
        divergence = standard_normal_kl(code.mean, code.log_std).mean() / self.behavior.latent
        metrics = {"behavior/error": error.detach(), "behavior/kl": divergence.detach()}
        return error + self.kl_weight * divergence, metrics

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        task, following = batch.get("task", None), batch["next"]
        with torch.no_grad():
            noise = several(batch["noise", "next"], self.behavior.latent)
            latent = self.behavior.clip(noise)
            action = self.proposed(self.target_actor, following["observation"], latent, task)
            value = self.target_critic(following["observation"], action, task)
            next_value = soft_clipped_minimum(value, min_weight=self.min_weight).amax(0)
        target = bootstrap(batch, next_value, self.discount)
        q = self.critic(batch["observation"], batch["action"], task)
        return (target - q).square().mean(-1).sum(), q.detach()

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return the loss of the perturbation, ``[]``."""
        observation, task = batch["observation"], batch.get("task", None)
        latent = self.behavior.clip(batch["noise", "now"])
        action = self.proposed(self.actor, observation, latent, task)
        return -frozen(self.critic)(observation, action, task, members=1).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``behavior``, ``critic`` and ``actor``.

        Args:
            batch: TensorDict ``[B]``; ``task`` and ``discount`` are used where they are there.

        Returns:
            Terms and metrics.
        """
        behavior, metrics = self.behavior_loss(batch)
        critic, q = self.critic_loss(batch)
        actor = self.actor_loss(batch)
        metrics |= {"critic/q_max": q.abs().amax()}
        return LossTerms({"behavior": behavior, "critic": critic, "actor": actor}, metrics)

    def best(self, observation: Tensor, latent: Tensor, task: Tensor | None) -> Tensor:
        """Return the best ``[N, A]`` of the actions that latent vectors ``[m, N, L]`` make."""
        return self._judged(observation, latent, task)[0]

    def _judged(
        self, observation: Tensor, latent: Tensor, task: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the best action ``[N, A]``, and the values ``[N, m]`` of all."""
        decoded = self.behavior(observation, latent.double(), task)
        action = self.actor(observation, decoded, task)
        features = beside(self.critic.inputs(observation, task), action)
        value = outputs(self.critic.members[0], features)[..., 0]
        chosen = self.actor.scale.to_environment(best_of(action, value).float())
        return chosen, value.movedim(0, -1).float()

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the best of the actions proposed by the latent vectors that are kept.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, A]`` in environment units within the bounds.
        """
        return self.decide(observation, task, {}).action

    def decide(
        self,
        observation: Tensor,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the best of the actions proposed, and the values of all, see :meth:`forward`."""
        latent = self.behavior.latents.unsqueeze(1).expand(-1, observation.shape[0], -1)
        action, value = self._judged(observation, latent, task)
        return Decision(action, {}, value)

    def act(
        self, observation: Tensor, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions in environment units, the best of fresh proposals where draws are given.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]``.
        """
        if draws is None:
            best: Tensor = self(observation, task)
            return best
        noise = normals(draws, self.behavior.latents.numel())
        latent = self.behavior.clip(several(noise, self.behavior.latent))
        return self.best(observation, latent, task)
