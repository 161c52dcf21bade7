"""Implicit Q-learning (IQL): values by expectile regression, policy by weighted cloning.

    L_V  = E[ |expectile - 1(u < 0)| u^2 ],   u = min_k Q'_k(s, a) - V(s)               (eq. 5)
    L_Q  = sum_k E[ (r + gamma (1 - d) V(s') - Q_k(s, a))^2 ]                           (eq. 6)
    L_pi = -E[ min(exp(beta u), max_weight) log pi(a | s) ]                             (eq. 7)

Q' are the target critics. No action outside the log is ever evaluated.

Reference: Kostrikov, Nair and Levine 2021, "Offline reinforcement learning with implicit
Q-learning", arXiv 2110.06169.

Deviations:
- The three losses take one joint step from the same parameters; the authors' code steps V, then the
  policy with the new V, then Q. The terms touch disjoint networks, so only the age of V differs, by
  one update.
- Rewards are not rescaled here; the paper's rule for locomotion is the relabeler
  ``ScaleReward(return_range=1000)``.
- The policy's rate is constant unless ``decay`` is given (the authors': a cosine to 0 over the
  run).

Update order: V, Q and policy together, then the target critics. The target critic weighs the actor.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.losses import expectile_loss, weighted_nll
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.weights import exponential_weight, weight_metrics
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.policy import Head, Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, bootstrap


class IQL(Learner):
    """Implicit Q-learning for continuous and discrete actions, with or without a task.

    Args:
        spec: What the data look like.
        hidden: Width of each hidden layer.
        frequencies: Of sines and cosines of the inputs, see :class:`Inputs`: for few numbers with
            edges, such as positions among walls.
        head: Distribution of continuous actions.
        expectile: In (0, 1); larger leans to the best logged actions.
        inverse_temperature: beta, at least 0, multiplies the advantage; 0 is behaviour cloning.
        max_weight: Cap on the policy's weight.
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        hidden: Sequence[int] = (256, 256),
        frequencies: int = 0,
        head: Head = "gaussian",
        expectile: float = 0.7,
        inverse_temperature: float = 3.0,
        max_weight: float = 100.0,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        if not 0 < expectile < 1:
            raise ValueError(f"expectile is {expectile}, it must lie in (0, 1)")
        if inverse_temperature < 0 or not max_weight > 0:
            raise ValueError(
                f"inverse_temperature {inverse_temperature} must be at least 0 and max_weight "
                f"{max_weight} above 0"
            )
        if not 0 <= discount <= 1 or not 0 < tau <= 1:
            raise ValueError(f"discount {discount} must lie in [0, 1] and tau {tau} in (0, 1]")
        if critics < 1:
            raise ValueError(f"critics is {critics}, it must be at least 1")
        self.expectile, self.inverse_temperature = expectile, inverse_temperature
        self.max_weight, self.discount, self.tau = max_weight, discount, tau
        self.actor = Policy(self.spec, hidden, head=head, frequencies=frequencies)
        self.value = ValueNet(self.spec, hidden, frequencies=frequencies)
        self.critic = Critic(self.spec, hidden, members=critics, frequencies=frequencies)
        self.target_critic = self.follow(self.critic)

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, and the advantage ``[B]`` of the logged actions (eq. 5)."""
        task = batch.get("task", None)
        with torch.no_grad():
            q = self.target_critic(batch["observation"], batch["action"], task).amin(0)
        advantage = q - self.value(batch["observation"], task)
        return expectile_loss(advantage, expectile=self.expectile).mean(), advantage.detach()

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]`` (eq. 6)."""
        task, following = batch.get("task", None), batch["next"]
        with torch.no_grad():
            next_value = self.value(following["observation"], task)
        target = bootstrap(batch, next_value, self.discount)
        q = self.critic(batch["observation"], batch["action"], task)
        return (target - q).square().mean(-1).sum(), q.detach()

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]`` (eq. 7)."""
        log_prob = self.actor.log_prob(
            batch["observation"], batch["action"], batch.get("task", None)
        )
        weight = exponential_weight(
            self.inverse_temperature * advantage, max_weight=self.max_weight
        )
        return weighted_nll(log_prob, weight).mean(), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value``, ``critic`` and ``actor``.

        Args:
            batch: TensorDict ``[B]``; ``task`` and ``discount`` are used where they are there.

        Returns:
            Terms and metrics.
        """
        value, advantage = self.value_loss(batch)
        critic, q = self.critic_loss(batch)
        actor, weight = self.actor_loss(batch, advantage)
        found = weight_metrics(weight, max_weight=self.max_weight)
        metrics = {f"actor/{name}": value for name, value in found.items()}
        metrics |= {"value/advantage": advantage.mean(), "critic/q_max": q.abs().amax()}
        return LossTerms({"value": value, "critic": critic, "actor": actor}, metrics)

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return what each row's transition is worth beyond its reward, under other tasks.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``.
            draws: Not used: V knows no action.

        Returns:
            Log-probability of the logged action, V of the next state, 1 / inverse temperature (0
            for behaviour cloning), and the discount.
        """
        log_prob = self.actor.log_prob(batch["observation"], batch["action"], task)
        inverse = self.inverse_temperature
        temperature = torch.full((), 1.0 / inverse if inverse else 0.0, device=task.device)
        value = self.value(batch["next", "observation"], task)
        return SoftValues(log_prob, value, temperature, self.discount)
