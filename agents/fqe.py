"""Fitted Q evaluation (FQE): what a given policy is worth, from a log of another one.

    y    = clip(r + gamma (1 - d) mean_j Q'_e(s', a'_j), low, high),   a'_j ~ pi(. | s')    (eq. 3)
    L_e  = E[ w_e (y - Q_e(s, a))^2 ]
    J_e  = mean over first states of mean_j Q_e(s_0, a_j),             a_j ~ pi(. | s_0)

pi is given and stays as it is: nothing is maximised, so nothing overestimates by choosing. Discrete
actions enter by the exact sum over pi(a | s'). E estimates with target networks of their own are
each fitted to a bootstrap of the log's episodes, w_e ~ Poisson(1) per episode; their spread is how
much the value depends on which episodes were recorded. No return exceeds low = min(r, r / (1 -
gamma)) and high = max(r, r / (1 - gamma)) over all rows; networks answer in units of the log's
returns. Only ``terminated`` ends a return: a time limit does not.

With ``quantiles`` each estimate is a distribution of returns, fitted to that of y (Dabney et al.
2018, eq. 10, of the given policy). With a ``horizon`` returns end after so many steps of an
episode, and a critic is given the steps left.

Reference: Le, Voloshin and Yue 2019, arXiv 1903.08738, algorithm 3; bootstrap over episodes: Hao et
al. 2021, arXiv 2102.03607; quantiles: Dabney et al. 2018, arXiv 1710.10044.

Deviations:
- Targets follow at every update (Fu et al. 2021, arXiv 2103.16596); there they are copies in turn.
- Quantiles are fitted by the plain pinball loss: Huber's draws them together.
- Targets are clipped: a policy that earns more in a step than any row is judged too low.

Update order: all critics, then their targets.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_bootstrap, check_ranges
from hindsight_rl.keys import COUNTS, EPISODE, STEP, Key
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.maths.quantile_regression import mixture_quantiles, quantile_loss
from hindsight_rl.maths.returns import ReturnRange
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.return_critic import ReturnCritic
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.given import Function
from hindsight_rl.training.judged import JudgedPass, answer_key
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class FQE(Learner):
    """Values of a given policy: an ensemble of critics, each on a bootstrap of the log's episodes.

    Args:
        spec: What the data look like.
        policy: What is judged: path of a checkpoint or of an exported file, from Python a function
            of observations (and tasks) too; ``None`` where its answers are columns of the log.
        network: Inputs and hidden layers, see :class:`Network`.
        discount: In [0, 1); 1 with a horizon.
        horizon: Steps of an episode after which returns end; ``None`` for never.
        quantiles: Numbers that stand for the distribution of returns; 0 for their mean alone.
        critics: Number of estimates, E.
        bootstrap: Have each estimate count episodes by draws of its own; all alike if not.
        tau: Share of the way the target networks move per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    acts = False
    not_exported = "it judges a policy and fits none; export the policy that it judges"
    in_keys = (*TRANSITION, answer_key(discrete=False))
    optional_keys = ("task",)
    targets = {"target_critic": "critic"}

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        policy: str | Function | None = None,
        network: Network = Network(),
        discount: float = 0.99,
        horizon: int | None = None,
        quantiles: int = 0,
        critics: int = 5,
        bootstrap: bool = True,
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        judged, policy = policy, policy if isinstance(policy, str) else None  # plain, to be saved
        super().__init__(spec, **learner)
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        check_ranges(at_least(0, quantiles=quantiles))
        check_ranges(at_least(1, horizon=horizon), unit="steps", note=", or null for none")
        if discount == 1 and horizon is None:
            raise ValueError(
                "discount is 1 and there is no horizon: values that are fitted to themselves grow "
                "for ever. Give horizon (steps of an episode), or discount below 1"
            )
        self.discount, self.horizon, self.quantiles = discount, horizon, quantiles
        self.bootstrap, self.tau = bootstrap, tau
        self.critic = ReturnCritic(
            self.spec, network, members=critics, quantiles=quantiles, horizon=horizon
        )
        self.target_critic = self.follow(self.critic)
        self.answer = answer_key(discrete=self.spec.action.discrete)
        timed = () if horizon is None else (STEP,)
        self.in_keys = (*TRANSITION, *timed, *((self.answer,) if judged is None else ()))
        self.log_pass = JudgedPass(
            judged, self.spec, discount=discount, horizon=horizon, take=self.take_returns
        )

    def take_returns(self, known: ReturnRange) -> None:
        """Take what the first pass over a log knows of returns."""
        self.critic.take(known)
        self.target_critic.take(known)

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read, with how often each estimate counts a row."""
        return (*super().read_keys, COUNTS)

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with how often each estimate counts its rows, see :class:`Learner`."""
        found = super().complete(batch, seed).copy()
        counts = episode_weights(found[EPISODE], self.critic.count).movedim(0, -1)
        return found.set(COUNTS, counts if self.bootstrap else torch.ones_like(counts))

    def target(self, batch: TensorDict, left: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the critics regress on, and what each number counts, ``[E, B, M]`` both."""
        now = Transition(batch, self.discount)
        after = None if left is None else left - 1
        with torch.no_grad():
            values, shares = self.target_critic.of_policy(
                now.next_observation, now.task, batch[self.answer], after
            )
            y = now.target(values).clamp(self.critic.low, self.critic.high)
        return y.movedim(1, -1), shares.movedim(0, -1).expand(len(y), -1, -1)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, in spreads of returns; held-out rows count once each."""
        now = Transition(batch)
        left = self.critic.left(None if self.horizon is None else batch[STEP])
        y, shares = self.target(batch, left)
        q = self.critic(now.observation, now.action, now.task, left)
        if self.quantiles:
            error = quantile_loss(q, y, shares) / self.critic.scale
            q = q.mean(-1)
        else:
            error = ((y.squeeze(-1) - q) / self.critic.scale).square()
        counts = batch[COUNTS].movedim(-1, 0) if self.training else torch.ones_like(error)
        counts = counts if left is None else counts * (left > 0)
        metrics = {
            "critic/q_max": q.detach().abs().amax(),
            "critic/spread": q.detach().std(0, correction=0).mean(),
        }
        return LossTerms({"critic": (counts * error).mean()}, metrics)

    @torch.no_grad()
    def value(
        self,
        observation: Observation,
        task: Tensor | None,
        answer: Tensor,
        step: Tensor | None = None,
    ) -> Tensor:
        """Return what actions of a policy are worth by every estimate.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.
            answer: Actions ``[N, m, A]`` in environment units, whose mean is taken, or the
                probabilities ``[N, n]`` of choices; one action alone gives its Q.
            step: ``[N]`` int64, steps of the episode before; needed with a horizon.

        Returns:
            ``[E, N]``, reward units.
        """
        left = self.critic.left(step)
        values, shares = self.critic.of_policy(observation, task, answer, left)
        return (shares * values).sum(1)

    @torch.no_grad()
    def value_quantiles(
        self,
        observation: Observation,
        task: Tensor | None,
        answer: Tensor,
        step: Tensor | None = None,
    ) -> Tensor:
        """Return quantiles of the return ``[E, N, Q]``, rising; arguments are those of `value`."""
        if not self.quantiles:
            raise ValueError("no quantiles were fitted: give FQE(quantiles=...)")
        left = self.critic.left(step)
        values, shares = self.critic.of_policy(observation, task, answer, left)
        values = values.movedim(1, -1)
        return mixture_quantiles(values, shares.movedim(0, -1).expand_as(values), self.quantiles)
