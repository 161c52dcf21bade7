"""Least-squares policy iteration (LSPI): linear values, solved for, and followed greedily.

    A     = E[ phi(s, a) (phi(s, a) - gamma (1 - d) phi(s', pi(s')))' ],   b = E[ phi(s, a) r ]
    theta = A^-1 b,   Q(s, a) = theta' phi(s, a)                                  (eq. 5.5: LSTD-Q)
    pi(s) = argmax_a Q(s, a),   until it stays                                  (figure 8: LSPI)

An update is one round: the greedy policy of the present theta is judged on the whole log by one
solve, without a step size. A few rounds are all there is, and more change nothing. Of real actions
phi holds all products of two of the standardised numbers of state and action, so that the best
action is where the gradient of Q is 0: on a linear system with quadratic costs that is the
optimal controller.

Reference: Lagoudakis and Parr 2003, "Least-squares policy iteration", JMLR 4; cosines as features:
Rahimi and Recht 2007, "Random features for large-scale kernel machines".

Deviations:
- The loss that moves theta is its squared distance to the solution: one step of plain gradient
  descent at rate 1 arrives there.
- A choice that no row of the log takes is never taken.
- Best real actions are clipped to the bounds number by number.
- The first policy takes choice 0, or the mean of the log's actions.

Update order: round, then theta.
"""

import warnings
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.nets.linear_values import Features, LinearValues
from hindsight_rl.policies.action_values import Greedy
from hindsight_rl.policies.maximiser import Maximiser
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.training.policy_iteration import PolicyIteration, Round


class LSPI(Learner):
    """Policy iteration by least squares on the whole log, with features of an observed vector.

    Args:
        spec: What the data look like.
        features: ``"plain"``: observation and task as they are, for one-hot states; ``"quadratic"``
            : a constant, the standardised numbers and their products, for real actions those of
            the action too; ``"fourier"``: a constant and cosines. The last is for choices alone.
        count: Cosines, at least 1.
        bandwidth: Of the kernel that cosines stand for, in standard deviations, above 0.
        discount: In [0, 1].
        ridge: What is added to the diagonal of A, at least 0.
        temperature: Of the soft-max that choices are drawn from where they are drawn, reward units,
            above 0.
        exploration: Standard deviation of the noise on drawn real actions, policy units, at least
            0.
        optimizer: Builds the optimiser; plain gradient descent at rate 1 takes the solution.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or features do not go with the actions.
    """

    in_keys = TRANSITION
    optional_keys = ("task",)
    linear = True
    limits = {"seeds": "nothing in it is drawn, and all of them would end alike"}
    actor: Greedy | Maximiser
    solved: Tensor
    condition: Tensor
    changed: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        features: Features = "quadratic",
        count: int = 256,
        bandwidth: float = 1.0,
        discount: float = 0.99,
        ridge: float = 1e-6,
        temperature: float = 1.0,
        exploration: float = 0.1,
        optimizer: OptimizerCallable = lambda params: torch.optim.SGD(params, lr=1.0),
        **learner: Any,
    ) -> None:
        super().__init__(spec, optimizer=optimizer, **learner)
        check_ranges(at_least(1, count=count))
        check_ranges(above(0, bandwidth=bandwidth, temperature=temperature))
        check_ranges(within("[0, 1]", discount=discount))
        check_ranges(at_least(0, ridge=ridge, exploration=exploration))
        self.discount = discount
        self.critic = LinearValues(self.spec, features, count=count, bandwidth=bandwidth)
        self.actor = (
            Greedy(self.critic.values, temperature)
            if self.critic.discrete
            else Maximiser(self.critic.unclipped, self.critic.scale, exploration)
        )
        self.register_buffer("solved", torch.zeros_like(self.critic.theta.data))
        self.register_buffer("condition", torch.ones(()))
        self.register_buffer("changed", torch.ones(()))
        self.log_pass = PolicyIteration(
            self.critic, discount=discount, ridge=ridge, take=self.take_round
        )

    def take_round(self, found: Round) -> None:
        """Take what a round over the log found.

        Args:
            found: Solution and condition, or that the policy stayed.

        Raises:
            ValueError: The values of real actions have no maximum.
        """
        self.changed.fill_(found.changed)
        if found.theta is not None:
            self.critic.check_concave(found.theta)
            self.solved.copy_(found.theta.reshape(self.solved.shape))
            self.condition.fill_(found.condition)

    def on_train_end(self) -> None:
        """Warn where the greedy policy was still changing: its values are those of the one before.

        A log far from the greedy policies may leave LSPI walking in a circle.
        """
        changed = float(self.changed)
        if changed > 0:
            warnings.warn(
                f"the greedy actions of {changed:.1%} of the rows changed in the last round: "
                "values are not yet those of the policy. Allow more rounds (max_steps); where they "
                "walk in a circle, take other features or a larger ridge",
                stacklevel=2,
            )

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, half the squared distance to the solution.

        Args:
            batch: TensorDict ``[B]``; it enters the metrics alone.

        Returns:
            Terms and metrics: the Bellman error of the batch, how well the values are determined,
            and how much of the greedy policy changed in the last round.
        """
        now = Transition(batch, self.discount)
        with torch.no_grad():
            q = self.critic(now.observation, now.action, now.task)
            best = self.critic.best(now.next_observation, now.task)
            target = now.target(self.critic(now.next_observation, best, now.task))
        metrics = {
            "critic/q_max": q.abs().amax(),
            "critic/error": (target - q).square().mean(),
            "critic/condition": self.condition.clone(),
            "critic/changed": self.changed.clone(),
        }
        return LossTerms(
            {"critic": 0.5 * (self.critic.theta - self.solved).square().sum()}, metrics
        )
