"""Inverse preference learning (IPL): values and a policy from comparisons, without a reward.

    r_Q(s, a) = Q(s, a) - gamma (1 - d) V(s')                             (section 4)
    L_Q  = -E[ y log sigma(R_2 - R_1) + (1 - y) log sigma(R_1 - R_2) ]
           + regularisation E[ r_Q^2 ],   R_i: sum of r_Q over segment i
    L_V  = E[ |expectile - 1(u < 0)| u^2 ],   u = min_k Q'_k(s, a) - V(s)
    L_pi = -E[ min(exp(beta u), max_weight) log pi(a | s) ]

y: probability that segment 2 is better. Values that are consistent imply a reward, and that reward
is what has to explain the answers: so no reward is fitted first. Answers alone fix neither zero nor
unit of it, and sums of steps say nothing of single ones; the regularisation does.

Q' are the target critics. No action outside the segments is ever evaluated.

Reference: Hejna and Sadigh 2023, "Inverse preference learning: preference-based RL without a reward
function", arXiv 2305.15363; published code: jhejna/inverse-preference-learning.

Deviations:
- V, Q and policy take one joint step, the published code's one after the other.
- All losses read the steps of the compared segments; the published code adds as many rows of the
  log where it has them.
- V(s') is cut at +-1 / (regularisation (1 - gamma)), as in the published code for locomotion.

Update order: V, Q and policy together, then the target critics. The target critic weighs the actor.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges, within
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND, TERMINATED, Key
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.preferences import (
    implied_reward,
    pair_accuracy,
    preference_loss,
    segment_sum,
)
from hindsight_rl.maths.weights import exponential_weight, weight_metrics
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import (
    COMPARED_STEPS,
    COMPARISON,
    COMPARISON_TASKS,
    Learner,
    LossTerms,
    Transition,
    named,
)
from hindsight_rl.training.policy_values import expectile_value_loss

_STEP: tuple[Key, ...] = ("observation", "action", ("next", "observation"), TERMINATED)


def both_segments(batch: TensorDict) -> TensorDict:
    """Return the steps of pairs ``[B]`` as transitions, ``[2, B, L]``."""
    names = [*_STEP, *(["task"] if (FIRST, "task") in batch.keys(include_nested=True) else [])]
    found = {key: torch.stack([batch[part][key] for part in (FIRST, SECOND)]) for key in names}
    return TensorDict(found, found["action"].shape[:3])


class IPL(Learner):
    """Implicit Q-learning whose reward is the one that its values imply.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        regularisation: Weight of the implied reward's square, above 0: the unit of rewards, and
            the smaller the larger they get.
        expectile: In (0, 1); larger leans to the best logged actions.
        inverse_temperature: beta, at least 0, multiplies the advantage; 0 is behaviour cloning.
        max_weight: Cap on the policy's weight.
        discount: In [0, 1).
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = (*COMPARISON, *COMPARED_STEPS)
    optional_keys = COMPARISON_TASKS
    targets = {"target_critic": "critic"}

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        regularisation: float = 0.5,
        expectile: float = 0.7,
        inverse_temperature: float = 3.0,
        max_weight: float = 100.0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("(0, 1)", expectile=expectile), within("[0, 1)", discount=discount))
        check_ranges(above(0, regularisation=regularisation, max_weight=max_weight))
        check_ranges(at_least(0, inverse_temperature=inverse_temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.regularisation, self.expectile = regularisation, expectile
        self.inverse_temperature, self.max_weight = inverse_temperature, max_weight
        self.discount, self.tau = discount, tau
        self.actor: Policy = Policy(self.spec, network, head=head)
        self.value = ValueNet(self.spec, network)
        self.critic = Critic(self.spec, network, members=critics)
        self.target_critic = self.follow(self.critic)

    def implied(self, steps: TensorDict) -> Tensor:
        """Return the reward that each critic implies for steps ``[...]``, ``[E, ...]``."""
        now = Transition(steps)
        limit = 1 / (self.regularisation * (1 - self.discount))
        with torch.no_grad():
            ahead = self.value(now.next_observation, now.task).clamp(-limit, limit)
        q = now.values(self.critic)
        return implied_reward(q, ahead.expand_as(q), now.terminated.expand_as(q), self.discount)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value``, ``critic`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` of pairs.

        Returns:
            The terms, and how often the better segment has the larger implied reward.
        """
        steps = both_segments(batch)
        value, advantage = expectile_value_loss(
            steps, self.value, self.target_critic, expectile=self.expectile
        )
        reward = self.implied(steps)
        first, second = segment_sum(reward).unbind(1)
        label = batch[PREFERENCE]
        answers = preference_loss(first, second, label.expand_as(first))
        critic = answers.mean(-1) + self.regularisation * reward.square().flatten(1).mean(-1)
        weight = exponential_weight(
            self.inverse_temperature * advantage, max_weight=self.max_weight
        )
        row_loss = Transition(steps).row_loss(self.actor)
        reward = reward.detach()
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_weight))
        metrics |= named("actor", Transition(steps).watched(self.actor))
        metrics |= {
            "critic/accuracy": pair_accuracy((second - first).detach().mean(0), label),
            "critic/reward_size": reward.square().mean().sqrt(),
            "value/advantage": advantage.mean(),
        }
        actor = weighted_loss(row_loss, weight).mean()
        return LossTerms({"value": value, "critic": critic.sum(), "actor": actor}, metrics)
