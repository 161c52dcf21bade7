"""Discrete batch-constrained Q-learning: double Q-learning among the actions that a log takes.

    A(s) = { a : pi_b(a | s) / max_a' pi_b(a' | s) > threshold }
    y    = r + gamma (1 - d) Q'(s', argmax_{a' in A(s')} Q(s', a'))
    L_Q  = sum_k E[ huber(y - Q_k(s, a)) ]
    L_b  = E[ -log pi_b(a | s) + logit_weight mean_a' i(s, a')^2 ],   pi_b = soft-max of i

Q' is the target critic; of several critics the minimum is meant wherever no k stands. pi_b clones
the log; the policy takes the action of A(s) with the largest value. Threshold 0 is double DQN, near
1 it is cloning of the likeliest action.

Reference: Fujimoto, Conti, Ghavamzadeh and Pineau 2019, "Benchmarking batch deep reinforcement
learning algorithms", arXiv 1910.01708; weights and means as in the authors' code.

Deviations:
- Critic and pi_b share no layer; in the authors' code neither do they for vector observations, but
  for images they share the convolutions.
- No random action is mixed in (the authors' code: 0.1 % on Atari, none elsewhere).
- It judges no transitions for ``TransitionInverseRL``: those count -log pi(a | s), which
  has no bound for an action outside A(s).

Update order: critic and pi_b together, then, where it is due, the target critic.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges, within
from hindsight_rl.maths.batch_constrained import allowed_actions
from hindsight_rl.maths.losses import huber_loss
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Greedy, value_of_best
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition

# What an excluded action is worth: below all values, and finite, as an exported score must be.
EXCLUDED = -1e30


class DiscreteBCQ(Learner):
    """Take the action of the largest value among those that the log takes often enough.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        threshold: In [0, 1), share of the likeliest action's probability that an allowed action
            exceeds; 0 allows all.
        logit_weight: Of the mean squared logit of the cloned policy, at least 0.
        huber: Error, reward units, above 0, beyond which the loss grows linearly; ``None`` for half
            the squared error throughout.
        target_every: Updates between two moves of the target critic, at least 1.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0; none is drawn that is not allowed.
        discount: In [0, 1].
        tau: Share of the way the target critic moves, in (0, 1]; 1 copies.
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = TRANSITION
    actions = ("discrete",)
    targets = {"target_critic": "critic"}
    actor: Greedy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        threshold: float = 0.3,
        logit_weight: float = 0.01,
        huber: float | None = 1.0,
        target_every: int = 1,
        temperature: float = 1.0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("[0, 1)", threshold=threshold))
        check_ranges(at_least(0, logit_weight=logit_weight))
        check_ranges(above(0, huber=huber), note=", or null for squared errors")
        check_ranges(at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.threshold, self.logit_weight, self.huber = threshold, logit_weight, huber
        self.temperature, self.discount, self.tau = temperature, discount, tau
        self.every = {"target_critic": target_every}
        self.critic = Critic(self.spec, network, members=critics)
        self.target_critic = self.follow(self.critic)
        self.behavior = Policy(self.spec, network)
        self.actor = Greedy(self.action_values, temperature)

    def action_values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the value ``[..., n]`` of every allowed action by the least of the critics."""
        logits = self.behavior(observation, task).logits
        allowed = allowed_actions(logits, threshold=self.threshold)
        # Not multiplied by the mask: an excluded 0 would beat values below 0.
        value: Tensor = self.critic(observation, None, task).amin(0)
        return value.masked_fill(~allowed, EXCLUDED)

    def behavior_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the cloned policy, ``[]``, and how many actions it allows, ``[B]``."""
        now = Transition(batch)
        cloned = self.behavior(now.observation, now.task)
        allowed = allowed_actions(cloned.logits.detach(), threshold=self.threshold)
        regularizer = self.logit_weight * cloned.logits.square().mean()
        return regularizer - cloned.log_prob(now.action).mean(), allowed.sum(-1)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            ahead = self.target_critic(now.next_observation, None, now.task).amin(0)
            next_value = value_of_best(ahead, self.action_values(now.next_observation, now.task))
        target = now.target(next_value)
        q = now.values(self.critic)
        return huber_loss(target - q, limit=self.huber).mean(-1).sum(), q.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``behavior`` and ``critic``, see :meth:`Learner.losses`."""
        behavior, allowed = self.behavior_loss(batch)
        critic, q = self.critic_loss(batch)
        metrics = {"behavior/allowed": allowed.to(q.dtype).mean(), "critic/q_max": q.abs().amax()}
        return LossTerms({"behavior": behavior, "critic": critic}, metrics)
