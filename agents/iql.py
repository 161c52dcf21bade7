"""Implicit Q-learning (IQL): values by expectile regression, policy by weighted cloning.

    L_V  = E[ |expectile - 1(u < 0)| u^2 ],   u = min_k Q'_k(s, a) - V(s)               (eq. 5)
    L_Q  = sum_k E[ (r + gamma (1 - d) V(s') - Q_k(s, a))^2 ]                           (eq. 6)
    L_pi = -E[ min(exp(beta u), max_weight) log pi(a | s) ]                             (eq. 7)

Q' are the target critics. No action outside the log is ever evaluated.

Reference: Kostrikov, Nair and Levine 2021, "Offline reinforcement learning with implicit
Q-learning", arXiv 2110.06169.

Deviations:
- V, policy and Q take one joint step, the authors' one after the other: their V is an update newer.
- Rewards are not rescaled; the paper's rule for locomotion is ``ScaleReward(return_range=1000)``.
- The policy's rate is constant unless ``decay`` is given; the authors' falls to 0 on a cosine.

Update order: V, Q and policy together, then the target critics. The target critic weighs the actor.
"""

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges, within
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.weights import exponential_weight, weight_metrics
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition, named
from hindsight_rl.training.policy_values import (
    expectile_value_loss,
    implicit_critic_loss,
    logged_value,
)


class IQL(Learner):
    """Implicit Q-learning for continuous and discrete actions, with or without a task.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        expectile: In (0, 1); larger leans to the best logged actions.
        inverse_temperature: beta, at least 0, multiplies the advantage; 0 is behaviour cloning.
        max_weight: Cap on the policy's weight.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    asymmetric = True

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        expectile: float = 0.7,
        inverse_temperature: float = 3.0,
        max_weight: float = 100.0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("(0, 1)", expectile=expectile))
        beta = at_least(0, inverse_temperature=inverse_temperature)
        check_ranges(beta, above(0, max_weight=max_weight))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.expectile, self.inverse_temperature = expectile, inverse_temperature
        self.max_weight, self.discount, self.tau = max_weight, discount, tau
        self.actor: Policy = Policy(self.spec, network, head=head)
        self.value = ValueNet(self.critic_spec, network)
        self.critic = Critic(self.critic_spec, network, members=critics)
        self.target_critic = self.follow(self.critic)

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, and the advantage ``[B]`` of the logged actions (eq. 5)."""
        target = self.target_critic
        return expectile_value_loss(batch, self.value, target, expectile=self.expectile)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]`` (eq. 6)."""
        return implicit_critic_loss(batch, self.critic, self.value, discount=self.discount)

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]`` (eq. 7)."""
        scaled = self.inverse_temperature * advantage
        weight = exponential_weight(scaled, max_weight=self.max_weight)
        return weighted_loss(Transition(batch).row_loss(self.actor), weight).mean(), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value``, ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        value, advantage = self.value_loss(batch)
        critic, q = self.critic_loss(batch)
        actor, weight = self.actor_loss(batch, advantage)
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_weight))
        metrics |= named("actor", Transition(batch).watched(self.actor))
        metrics |= {"value/advantage": advantage.mean(), "critic/q_max": q.abs().amax()}
        return LossTerms({"value": value, "critic": critic, "actor": actor}, metrics)

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return what rows are worth under other tasks; draws are not used: V knows no action."""
        check_exact("IQL.soft_values", self.actor, "tasks are judged by log pi")
        now, inverse = Transition(batch), self.inverse_temperature
        return SoftValues(
            lambda: now.log_prob(self.actor, task),
            lambda: self.value(now.next_observation, task),
            task.new_full((), 1.0 / inverse if inverse else 0.0),
            self.discount,
            lambda: logged_value(self.critic, now, task),
        )
