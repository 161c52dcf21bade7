"""Twin delayed deep deterministic policy gradient (TD3): a policy that climbs a cautious critic.

    a'   = clip(mu'(s') + clip(noise, -limit, limit), -1, 1)                      (section 5.3)
    y    = r + gamma (1 - d) min_k Q'_k(s', a')                                        (eq. 10)
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ]
    L_pi = -E[ Q_1(s, mu(s)) ]

mu' and Q' are the target policy and the target critics. On a fixed log nothing holds mu(s) near the
logged actions: where all Q err upwards there, their targets repeat the error, and values can
diverge.

Reference: Fujimoto et al. 2018, "Addressing function approximation error in actor-critic methods",
arXiv 1802.09477.

Deviations:
- One joint step from the same parameters, where the authors step one loss after the other; the
  terms touch disjoint networks, so only ages differ, by one update.
- Sizes and rates are those of the authors' present code, 256 units and 3e-4; the paper's are 400
  and 300 units and 1e-3.

Update order: critics, and at every second update the policy with them, then all targets. The first
online critic leads the actor, the target networks the critics.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_bootstrap, check_ranges
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.smoothing import smoothed_value
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class TD3(Learner):
    """Deterministic policy gradient with twin critics, smoothed targets and a delayed policy.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        exploration: Standard deviation of the noise on drawn actions, policy units, at least 0.
        target_noise: Standard deviation of the noise on the target policy's actions, policy units,
            at least 0.
        target_noise_limit: Largest magnitude of that noise, policy units, at least 0.
        delay: Updates of the critics per update of the policy and of all targets, at least 1.
        discount: In [0, 1].
        tau: Share of the way the target networks move per update of theirs, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or actions have no bounds.
    """

    in_keys = TRANSITION
    targets = {"target_actor": "actor", "target_critic": "critic"}
    actions = ("continuous",)
    asymmetric = True
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        exploration: float = 0.1,
        target_noise: float = 0.2,
        target_noise_limit: float = 0.5,
        delay: int = 2,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        smoothing = at_least(0, target_noise=target_noise, target_noise_limit=target_noise_limit)
        check_ranges(smoothing)
        check_ranges(at_least(1, delay=delay), unit="updates")
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.target_noise, self.target_noise_limit = target_noise, target_noise_limit
        self.discount, self.tau = discount, tau
        self.every = dict.fromkeys(("actor", "target_actor", "target_critic"), delay)
        self.actor = Policy(
            self.spec,
            network,
            head=Head("deterministic", exploration=exploration),
        )
        self.critic = Critic(self.critic_spec, network, members=critics)
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return what the smoothing of one next action needs."""
        return {"next": self.actor.width}

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]`` (eq. 10)."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            next_value = smoothed_value(
                self.target_actor,
                self.target_critic,
                now.next_observation,
                now.task,
                batch["noise", "next"],
                std=self.target_noise,
                limit=self.target_noise_limit,
            )
        target = now.target(next_value)
        return now.regress(self.critic, target)

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return the loss of the policy, ``[]``: what the first critic says of its actions."""
        now = Transition(batch)
        action = self.actor.mode(now.observation, now.task)
        return -frozen(self.critic)(now.observation, action, now.task, members=1).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        actor = self.actor_loss(batch)
        metrics = {"critic/q_max": q.abs().amax()}
        return LossTerms({"critic": critic, "actor": actor}, metrics)
