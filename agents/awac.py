"""Advantage-weighted actor-critic (AWAC): values of the policy, policy by weighted cloning.

    y    = r + gamma (1 - d) min_k Q'_k(s', a'),   a' ~ pi(s')
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ]
    A    = min_k Q_k(s, a) - min_k Q_k(s, b),   b ~ pi(s)
    L_pi = -E[ min(exp(A / temperature), max_weight) log pi(a | s) ]           (actor update)

Q' are the target critics. For discrete actions expectations over a' and b are sums, and exact. With
``weights="softmax"`` the weight is exp(A / temperature) divided by its mean over the batch: there
is no cap, and a constant added to all advantages changes nothing. It can go on learning from
experience it collects: nothing in it needs to know the policy that made the log.

Reference: Nair, Gupta, Dalal and Levine 2020, "AWAC: Accelerating online reinforcement learning
with offline datasets", arXiv 2006.09359.

Deviations:
- The two losses take one joint step from the same parameters; the authors' code steps the critics,
  then the policy with the new ones. The terms touch disjoint networks, so only the age of Q
  differs, by one update.
- Cap, sizes, temperature and batch are those of CORL's code. The authors' has the soft-max, 4
  layers for the policy and 2 for the critics, temperature 2 for locomotion, batches of 1,024 and a
  weight decay of 1e-4 on the policy.
- The log of the spread lies in [-5, 2], as that of every policy here; the authors' in [-6, 0].

Update order: critics and policy together, then the target critics. The online critics weigh the
actor, the online policy chooses the next action.
"""

import math
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, check_bootstrap, check_ranges
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.weights import exponential_weight, softmax_weight, weight_metrics
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import choices
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition, named
from hindsight_rl.training.policy_values import policy_soft_values, policy_value_loss


class AWAC(Learner):
    """Cloning weighted by the exponential of the advantage over the policy's own actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        weights: ``"clip"`` caps the exponentials, ``"softmax"`` divides them by their mean over the
            batch.
        temperature: Above 0, divides the advantage, reward units; infinite is behaviour cloning.
        max_weight: Cap on the policy's weight; for ``"clip"``.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(256, 256, 256)),
        head: HeadKind | Head = "gaussian",
        weights: Literal["clip", "softmax"] = "clip",
        temperature: float = 1.0,
        max_weight: float = 100.0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, temperature=temperature, max_weight=max_weight))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.weights, self.temperature = weights, temperature
        self.max_weight = max_weight if weights == "clip" else math.inf
        self.discount, self.tau = discount, tau
        self.actor = Policy(self.spec, network, head=head)
        self.critic = Critic(self.spec, network, members=critics)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return what one action now and one next needs; sums over discrete actions need none."""
        width = self.actor.drawing_noise
        return {} if self.actor.discrete else dict.fromkeys(("now", "next"), width)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        return policy_value_loss(
            batch, self.critic, self.actor, self.target_critic, discount=self.discount
        )

    def advantage(self, batch: TensorDict, q: Tensor) -> Tensor:
        """Return by how much values ``[E, B]`` exceed those of the policy's actions, ``[B]``."""
        now = Transition(batch)
        noise = now.noise_of(self.actor, "now")
        with torch.no_grad():
            own = choices(self.actor, self.critic, now.observation, now.task, noise)
        return q.amin(0) - own.expected()

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]``."""
        rows = Transition(batch).row_loss(self.actor)
        if self.weights == "softmax":
            weight = softmax_weight(advantage, temperature=self.temperature, mean=self.batch_mean)
        else:
            weight = exponential_weight(
                advantage, temperature=self.temperature, max_weight=self.max_weight
            )
        return weighted_loss(rows, weight).mean(), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        advantage = self.advantage(batch, q)
        actor, weight = self.actor_loss(batch, advantage)
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_weight))
        metrics |= named("actor", Transition(batch).watched(self.actor))
        metrics |= {"actor/advantage": advantage.mean(), "critic/q_max": q.abs().amax()}
        return LossTerms({"critic": critic, "actor": actor}, metrics)

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :func:`policy_soft_values` of this learner."""
        return policy_soft_values(self, batch, task, draws)
