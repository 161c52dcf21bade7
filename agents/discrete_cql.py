"""Discrete conservative Q-learning (DiscreteCQL): double deep Q-learning held down off the log.

    y   = r + gamma (1 - d) Q'(s', argmax_a' Q(s', a'))    double (van Hasselt et al., "Double DQN")
    gap = log sum_a' exp(Q_k(s, a')) - Q_k(s, a)
    L_Q = sum_k E[ huber(y - Q_k(s, a)) + weight gap ]                                  (eq. 4)

Q' is the target critic; of several critics the minimum is meant wherever no k stands. The gap
lowers the values of actions that the log does not hold, so that their errors are not the largest
values that targets repeat; too small a weight only slows that down. With ``push_down: origin`` it
is COMBO: the sum over actions counts in imagined rows alone, Q(s, a) in those that happened. Beside
``NStep`` it is n-step Q-learning, beside ``FutureGoal`` it is HER.

Reference: Kumar, Zhou, Tucker and Levine 2020, "Conservative Q-learning for offline reinforcement
learning", arXiv 2006.04779, equation 4; double: van Hasselt, Guez and Silver 2016, arXiv
1509.06461; COMBO: Yu et al. 2021, arXiv 2102.08363, equation 2.

Deviations:
- Targets are those of double Q-learning unless ``double`` is false, and the critic answers with
  values; the paper's agent for Atari is QR-DQN: plain targets, of quantiles.
- Adam at 3e-4, 64 rows per update and a copy of the target critic every 100 updates, as suits small
  environments (Fujimoto et al. 2019, arXiv 1910.01708), in place of the paper's for Atari.

Update order: critic, then, where it is due, the target critic.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.keys import ORIGIN
from hindsight_rl.maths.conservative import conservative_gap
from hindsight_rl.maths.losses import huber_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic, value_of
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.action_values import Greedy, value_of_best
from hindsight_rl.policies.gap_actions import gap_sides
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class DiscreteCQL(Learner):
    """Deep Q-learning with values held down wherever the log has no actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        conservative_weight: At least 0, multiplies the gap; 0 is deep Q-learning.
        push_down: ``"log"``: actions at large in every row; ``"origin"``: in imagined rows alone.
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
        conservative_weight: float = 1.0,
        push_down: Literal["log", "origin"] = "log",
        double: bool = True,
        huber: float | None = 1.0,
        target_every: int = 100,
        temperature: float = 1.0,
        discount: float = 0.99,
        tau: float = 1.0,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, conservative_weight=conservative_weight))
        check_ranges(above(0, huber=huber), note=", or null for squared errors")
        check_ranges(at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.conservative_weight, self.by_origin = conservative_weight, push_down == "origin"
        self.in_keys = (*TRANSITION, ORIGIN) if self.by_origin else TRANSITION
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

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, their values and gaps ``[E, B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            ahead = self.target_critic(now.next_observation, None, now.task).amin(0)
            chooser = self.action_values(now.next_observation, now.task) if self.double_q else ahead
            next_value = value_of_best(ahead, chooser)
        target = now.target(next_value)
        value = self.critic(now.observation, None, now.task)
        q = value_of(value, now.action)
        sides = gap_sides(batch, self.batch_mean) if self.by_origin else None
        gap = conservative_gap(value, q, sides)
        loss = huber_loss(target - q, limit=self.huber) + self.conservative_weight * gap
        return loss.mean(-1).sum(), q.detach(), gap.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        critic, q, gap = self.critic_loss(batch)
        return LossTerms(
            {"critic": critic}, {"critic/q_max": q.abs().amax(), "critic/gap": gap.mean()}
        )

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)
