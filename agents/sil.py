"""Self-imitation learning (SIL): imitate the logged actions that did better than expected.

    A    = G - V(s),   A+ = max(A, 0)                                       G: return to go
    L_pi = -E[ A+ log pi(a | s) ] - entropy_weight E[ 1(A > 0) H(pi(s)) ]               (eq. 2)
    L_V  = value_weight / 2 E[ A+^2 ] + regression_weight / 2 E[ A^2 ]                  (eq. 3)

What did worse is not imitated, and not avoided either.

Reference: Oh, Guo, Singh and Lee 2018, "Self-imitation learning", arXiv 1806.05635; the entropy and
the two options below as in the authors' code (junhyukoh/self-imitation-learning).

Deviations:
- In the paper an actor-critic on fresh episodes learns V between these steps. Of a log alone its
  regression is left, the second part of L_V with the weight it has in A2C. Without it V only rises:
  it ends at the best return, or nowhere if it starts above all returns.
- ``max_advantage`` and ``min_positive`` are the authors' code at 1 and 0.125 (64 of its 512 rows),
  and the paper at their defaults. The code's slope of V is half of that of L_V at the same weight:
  its 0.01 is ``value_weight`` 0.005.
- The code also caps -log pi at 5, but passes its gradient through: that changes no update.
- Returns end with 0 at time limits too: the last steps of a truncated episode look worse than they
  are.
- Rows are drawn uniformly, where the paper replays those with a larger A+ more often; which
  episodes are kept is the data step's choice.

Update order: value and policy together; the policy is weighed with the value before the step.
"""

import math
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths.losses import lower_bound_loss, weighted_nll
from hindsight_rl.maths.weights import positive_weight, weight_metrics
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named


class SIL(Learner):
    """Cloning weighted by how much better than its state's value an action was, where it was.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        value_weight: Of the loss that lifts V where the return is above it, at least 0.
        regression_weight: Of the loss that fits V to all returns, at least 0.
        entropy_weight: Of the policy's entropy in imitated states, at least 0.
        max_advantage: Cap on the weight and on the slope that lifts V, above 0, reward units.
        min_positive: In (0, 1]: the losses of the imitated rows are divided by their share of the
            batch, and by no less than this; 1 is the plain mean over all rows.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = ("observation", "action", "return_to_go")
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        value_weight: float = 0.01,
        regression_weight: float = 0.5,
        entropy_weight: float = 0.01,
        max_advantage: float = math.inf,
        min_positive: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        weights = {"value_weight": value_weight, "regression_weight": regression_weight}
        check_ranges(at_least(0, **weights, entropy_weight=entropy_weight))
        if not value_weight + regression_weight > 0:
            raise ValueError("value_weight and regression_weight are both 0: nothing would learn V")
        cap = above(0, max_advantage=max_advantage)
        check_ranges(cap, within("(0, 1]", min_positive=min_positive))
        self.value_weight, self.regression_weight = value_weight, regression_weight
        self.entropy_weight = entropy_weight
        self.max_advantage, self.min_positive = max_advantage, min_positive
        self.actor = Policy(self.spec, network, head=head)
        self.value = ValueNet(self.spec, network)

    def share(self, advantage: Tensor) -> Tensor | float:
        """Return the share of the batch that losses of imitated rows are divided by."""
        if self.min_positive == 1.0:
            return 1.0
        positive = (advantage > 0).to(advantage.dtype)
        return self.batch_mean(positive).clamp(min=self.min_positive)

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, and the advantage ``[B]`` of the logged actions (eq. 3)."""
        now = Transition(batch)
        value = self.value(now.observation, now.task)
        advantage = batch["return_to_go"] - value
        lifted = lower_bound_loss(advantage, max_advantage=self.max_advantage).mean()
        lifted = self.value_weight * lifted / self.share(advantage)
        fitted = self.regression_weight * 0.5 * advantage.square().mean()
        return lifted + fitted, advantage.detach()

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]`` (eq. 2)."""
        now = Transition(batch)
        distribution = self.actor(now.observation, now.task)
        log_prob = distribution.log_prob(self.actor.scale.to_policy(now.action))
        weight = positive_weight(advantage, max_weight=self.max_advantage)
        bonus = torch.where(advantage > 0, self.entropy_weight * distribution.entropy(), 0.0)
        return (weighted_nll(log_prob, weight) - bonus).mean() / self.share(advantage), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with ``return_to_go``; ``task`` is used where it is there.

        Returns:
            Terms and metrics.
        """
        value, advantage = self.value_loss(batch)
        actor, weight = self.actor_loss(batch, advantage)
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_advantage))
        metrics |= named("actor", Transition(batch).watched(self.actor))
        metrics["actor/positive"] = (advantage > 0).to(advantage.dtype).mean()
        metrics["value/advantage"] = advantage.mean()
        return LossTerms({"value": value, "actor": actor}, metrics)
