"""Deep deterministic policy gradient (DDPG): a policy that climbs one critic.

    y    = r + gamma (1 - d) Q'(s', mu'(s'))                                            (eq. 5)
    L_Q  = E[ (y - Q(s, a))^2 ]                                                         (eq. 4)
    L_pi = -E[ Q(s, mu(s)) ]                                                            (eq. 6)

mu' and Q' are the target policy and the target critic. On a fixed log nothing holds mu(s) near the
logged actions: where Q errs upwards there, its target repeats the error, and values can diverge.

Reference: Lillicrap et al. 2015, "Continuous control with deep reinforcement learning", arXiv
1509.02971.

Deviations:
- One joint step from the same parameters, where the authors step one loss after the other; the
  terms touch disjoint networks, so only ages differ, by one update.
- Sizes, rates and tau are those of the re-tuned DDPG in the code of Fujimoto et al. 2018
  (arXiv 1802.09477), and as there the critic reads the action in its first layer and nothing decays
  its weights.
- Exploration is normal noise; the paper's is correlated in time.

Update order: critic and policy together, then both targets. The online critic leads the actor, the
target networks the critic.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_bootstrap
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class DDPG(Learner):
    """Deterministic policy gradient with one critic, for bounded continuous actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        exploration: Standard deviation of the noise on drawn actions, policy units, at least 0.
        discount: In [0, 1].
        tau: Share of the way the target networks move per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or actions have no bounds.
    """

    in_keys = TRANSITION
    targets = {"target_actor": "actor", "target_critic": "critic"}
    actions = ("continuous",)
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        exploration: float = 0.1,
        discount: float = 0.99,
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_bootstrap(discount=discount, tau=tau)
        self.discount, self.tau = discount, tau
        self.actor = Policy(
            self.spec,
            network,
            head=Head("deterministic", exploration=exploration),
        )
        self.critic = Critic(self.spec, network, members=1)
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critic, ``[]``, and its values ``[1, B]`` (eq. 4)."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            action = self.target_actor.mode(now.next_observation, now.task)
            next_value = self.target_critic(now.next_observation, action, now.task).squeeze(0)
        target = now.target(next_value)
        return now.regress(self.critic, target)

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return the loss of the policy, ``[]`` (eq. 6)."""
        now = Transition(batch)
        action = self.actor.mode(now.observation, now.task)
        return -frozen(self.critic)(now.observation, action, now.task).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        actor = self.actor_loss(batch)
        metrics = {"critic/q_max": q.abs().amax()}
        return LossTerms({"critic": critic, "actor": actor}, metrics)
