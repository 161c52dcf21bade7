"""Deep Q-learning (DQN), double if wanted: one critic of all actions, followed greedily.

    y   = r + gamma (1 - d) max_a' Q'(s', a')                                        (Mnih et al.)
    y   = r + gamma (1 - d) Q'(s', argmax_a' Q(s', a'))    double (van Hasselt et al., "Double DQN")
    L_Q = sum_k E[ huber(y - Q_k(s, a)) ]

Q' is the target critic; of several critics the minimum is meant wherever no k stands. On a fixed
log nothing keeps the largest value from being that of an action the log does not hold: where Q errs
upwards there, its target repeats the error, and values can diverge. Beside ``NStep`` it is n-step
Q-learning, beside ``FutureGoal`` it is HER.

Reference: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518;
double: van Hasselt, Guez and Silver 2016, arXiv 1509.06461.

Deviations:
- The target critic is copied every 100 updates, the paper's every 10,000 of some 12.5 million: as
  many copies in a run of 125,000.
- Adam at 3e-4 with 64 rows per update, as in the small environments of Fujimoto et al. 2019 (arXiv
  1910.01708), where the paper has RMSProp at 2.5e-4 with 32.

Update order: critic, then, where it is due, the target critic.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.maths.losses import huber_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.action_values import Greedy, value_of_best
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class DQN(Learner):
    """Deep Q-learning for discrete actions, plain or double, with or without a task.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        double: Let the critic choose the next action and the target critic only value it.
        huber: Error, reward units, above 0, beyond which the loss grows linearly; ``None`` for half
            the squared error throughout.
        target_every: Updates between two moves of the target critic, at least 1.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0.
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
        double: bool = False,
        huber: float | None = 1.0,
        target_every: int = 100,
        temperature: float = 1.0,
        discount: float = 0.99,
        tau: float = 1.0,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, huber=huber), note=", or null for squared errors")
        check_ranges(at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.double_q, self.huber, self.temperature = double, huber, temperature
        self.discount, self.tau = discount, tau
        self.every = {"target_critic": target_every}
        self.critic = Critic(self.spec, network, members=critics)
        self.target_critic = self.follow(self.critic)
        self.actor = Greedy(self.action_values, temperature)

    def action_values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the value ``[..., n]`` of every action by the least of the critics."""
        value: Tensor = self.critic(observation, None, task).amin(0)
        return value

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            ahead = self.target_critic(now.next_observation, None, now.task).amin(0)
            chooser = self.action_values(now.next_observation, now.task) if self.double_q else ahead
            next_value = value_of_best(ahead, chooser)
        target = now.target(next_value)
        q = now.values(self.critic)
        return huber_loss(target - q, limit=self.huber).mean(-1).sum(), q.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        return LossTerms({"critic": critic}, {"critic/q_max": q.abs().amax()})

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)
