"""Deep Q-learning (DQN), double if wanted: one critic of all actions, followed greedily.

    y   = r + gamma (1 - d) max_a' Q'(s', a')                                        (Mnih et al.)
    y   = r + gamma (1 - d) Q'(s', argmax_a' Q(s', a'))    double (van Hasselt et al., "Double DQN")
    L_Q = sum_k E[ huber(y - Q_k(s, a)) ]

Q' is the target critic; of several critics the minimum is meant wherever no k stands. On a fixed
log nothing keeps the largest value from being that of an action the log does not hold: where Q errs
upwards there, its target repeats the error, and values can diverge. Beside ``NStep`` it is n-step
Q-learning, beside ``FutureGoal`` it is HER. A row's ``weight`` multiplies its loss.

With ``quantiles`` N numbers of each action stand for the distribution of its return, fitted to that
of y by sum_i mean_j |tau_i - 1(y_j < theta_i)| huber(y_j - theta_i) / limit; Q is their mean
(QR-DQN). With ``atoms`` they are the shares p of N fixed returns z_i: the distribution of y is
projected onto these, and L_Q = -sum_i p_y(z_i) log p(z_i) (C51). With ``soft`` the next value is
that of the soft-max policy with its entropy,

    V(s') = sum_a' pi(a' | s') (Q'(s', a') - soft log pi(a' | s')),     pi = soft-max of Q' / soft

and with ``munchausen`` the reward gains munchausen clip(soft log pi(a | s), -1, 0), pi by Q'.

Reference: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518;
double: van Hasselt, Guez and Silver 2016, arXiv 1509.06461; quantiles: Dabney et al. 2018, arXiv
1710.10044, equation 10; atoms: Bellemare, Dabney and Munos 2017, arXiv 1707.06887, algorithm 1;
soft: Haarnoja et al. 2017, arXiv 1702.08165, equation 8; munchausen: Vieillard et al. 2020, arXiv
2007.14430, equation 1.

Deviations:
- The target critic is copied every 100 updates, the paper's every 10,000 of some 12.5 million: as
  many copies in a run of 125,000.
- Adam at 3e-4 with 64 rows per update, as in the small environments of Fujimoto et al. 2019 (arXiv
  1910.01708), where the paper has RMSProp at 2.5e-4 with 32.
- Of several critics the target takes the least of each quantile; with ``double`` the critic's own
  soft-max weighs the target critic's values. The papers have one critic, and none of both at once.

Update order: critic, then, where it is due, the target critic.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.soft_maximum import munchausen_bonus, soft_expectation
from hindsight_rl.nets.critics import Critic, value_of
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.return_numbers import return_numbers
from hindsight_rl.policies.action_values import Greedy, value_of_best
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class DQN(Learner):
    """Deep Q-learning for discrete actions, plain or double, with or without a task.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        double: Let the critic choose the next action and the target critic only value it.
        quantiles: Numbers that stand for the distribution of an action's return; 0 for its mean.
        atoms: Fixed returns, evenly spaced, whose shares stand for it, with one critic and without
            ``soft``; 0 for none.
        value_range: Smallest and largest of these returns, reward units.
        soft: Temperature of the policy whose next value counts, reward units; 0 for the largest.
        munchausen: Share of soft log pi(a | s) that rewards gain, at least 0; 0 without ``soft``.
        huber: Error, reward units, above 0, beyond which the loss grows linearly; ``None`` for half
            the squared error throughout, of quantiles for lines.
        target_every: Updates between two moves of the target critic, at least 1.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0.
        discount: In [0, 1].
        tau: Share of the way the target critic moves, in (0, 1]; 1 copies.
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or ``munchausen`` has no policy.
    """

    in_keys = TRANSITION
    optional_keys = ("task", "discount", "weight")
    actions = ("discrete",)
    targets = {"target_critic": "critic"}
    actor: Greedy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        double: bool = False,
        quantiles: int = 0,
        atoms: int = 0,
        value_range: tuple[float, float] | None = None,
        soft: float = 0.0,
        munchausen: float = 0.0,
        huber: float | None = 1.0,
        target_every: int = 100,
        temperature: float = 1.0,
        discount: float = 0.99,
        tau: float = 1.0,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, soft=soft, munchausen=munchausen))
        if munchausen and not soft:
            raise ValueError(
                f"munchausen is {munchausen} and soft is 0: rewards gain by the soft-max, "
                "so give its temperature (soft: 0.03)"
            )
        if atoms and (soft or critics > 1):
            raise ValueError(
                f"atoms is {atoms}, soft {soft} and critics {critics}: shares of atoms have no "
                "least and no entropy of a policy, so leave soft 0 and critics 1, or take quantiles"
            )
        check_ranges(above(0, huber=huber), note=", or null for squared errors")
        check_ranges(at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.double_q, self.temperature = double, temperature
        self.soft, self.munchausen = soft, munchausen
        self.returns = return_numbers(
            quantiles=quantiles, atoms=atoms, value_range=value_range, limit=huber
        )
        self.discount, self.tau = discount, tau
        self.every = {"target_critic": target_every}
        self.critic = Critic(self.spec, network, members=critics, numbers=self.returns.count)
        self.target_critic = self.follow(self.critic)
        self.actor = Greedy(self.action_values, temperature)

    def numbers(self, critic: Critic, observation: Tensor, task: Tensor | None) -> Tensor:
        """Return all numbers of every action by the least of critics, ``[..., n, M]``."""
        found: Tensor = critic(observation, None, task).amin(0)
        return found if self.returns.count else found.unsqueeze(-1)

    def action_values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the value ``[..., n]`` of every action by the least of the critics."""
        return self.returns.mean(self.numbers(self.critic, observation, task))

    def target(self, now: Transition) -> tuple[Tensor, Tensor]:
        """Return the M returns that the logged actions regress on and their shares, ``[B, M]``."""
        with torch.no_grad():
            ahead = self.numbers(self.target_critic, now.next_observation, now.task)
            chooser = self.returns.mean(ahead)
            if self.double_q:
                chooser = self.action_values(now.next_observation, now.task)
            if self.soft:
                following = soft_expectation(ahead, chooser, temperature=self.soft)
            else:
                following = value_of_best(ahead.movedim(-1, 0), chooser).movedim(0, -1)
            place, share = self.returns.returns(following)
            target = now.target(place.movedim(-1, 0))
            target = target + self.bonus(now) if self.munchausen else target
            return target.movedim(0, -1), share

    def bonus(self, now: Transition) -> Tensor:
        """Return what rewards gain by the likelihood of the logged actions, ``[B]``."""
        value = self.returns.mean(self.numbers(self.target_critic, now.observation, now.task))
        log_prob = value_of(torch.log_softmax(value / self.soft, -1), now.action)
        return munchausen_bonus(log_prob, weight=self.munchausen, temperature=self.soft)

    def logged(self, now: Transition) -> Tensor:
        """Return the numbers of the logged actions by every critic, ``[E, B, M]``."""
        found = now.values(self.critic)
        return found if self.returns.count else found.unsqueeze(-1)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        now = Transition(batch, self.discount)
        (place, share), numbers = self.target(now), self.logged(now)
        row_loss = self.returns.loss(numbers, place, share)
        if now.weight is not None:
            row_loss = row_loss * now.weight
        return row_loss.mean(-1).sum(), self.returns.mean(numbers).detach()

    def row_errors(self, batch: TensorDict) -> Tensor:
        """Return y - Q of rows ``[B]``, reward units, the mean over critics and numbers."""
        now = Transition(batch, self.discount)
        place, share = self.target(now)
        return (place * share).sum(-1) - self.returns.mean(self.logged(now)).mean(0)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        return LossTerms({"critic": critic}, {"critic/q_max": q.abs().amax()})

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)
