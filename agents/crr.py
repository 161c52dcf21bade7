"""Critic-regularised regression (CRR): values of the policy, policy by filtered cloning.

    y    = r + gamma (1 - d) min_k Q'_k(s', a'),   a' ~ pi'(s')                         (eq. 1)
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ]
    A    = min_k Q_k(s, a) - mean_j min_k Q_k(s, b_j),   b_j ~ pi(s),   j = 1 ... 4
    L_pi = -E[ f log pi(a | s) ]                                                        (eq. 2)
    f    = 1(A > 0)                                                             binary (eq. 3)
    f    = min(exp(A / temperature), max_weight)                           exponential (eq. 4)

pi' and Q' are the target policy and the target critics. For discrete actions expectations over a'
and b are sums, and exact. Where the rule ends in ``max`` the largest value of the b_j takes the
place of the mean: fewer logged actions pass. What acts is the critic-weighted policy, pi(a | s)
exp(Q(s, a) / temperature) normalised over actions.

Reference: Wang, Novikov, Zolna, Springenberg, Reed, Shahriari, Siegel, Merel, Gulcehre, Heess and
de Freitas 2020, "Critic regularized regression", arXiv 2006.15134.

Deviations:
- The critics are means fitted by squared errors and their targets one-step ones, as in Acme's code
  (google-deepmind/acme, agents/jax/crr), where the paper's are distributions; the policy is a
  normal distribution, the paper's a mixture.
- Without draws the policy is the mean of the critic-weighted one, by ``candidates`` actions of the
  same noise in every state, so that it can be exported; of discrete actions the likeliest. Where
  draws are given it is drawn from, as in the paper.
- The log of the spread lies in [-5, 2], as that of every policy here.

Update order: critics and policy together; every ``target_every`` updates target policy and target
critics become copies. The online critics weigh the actor, the target policy chooses the next
action.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.weights import binary_weight, exponential_weight, weight_metrics
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Choices, choices
from hindsight_rl.policies.critic_weighted import acting
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition, named
from hindsight_rl.training.policy_values import policy_soft_values, policy_value_loss

Rule = Literal["binary", "binary_max", "exponential", "exponential_max"]


def largest(own: Choices) -> Tensor:
    """Return the largest value of a policy's actions by the least of the critics, ``[B]``."""
    return own.value.amin(0).amax(0)


class CRR(Learner):
    """Cloning of the logged actions that a critic prefers to the policy's own, all or by degrees.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        rule: ``"binary"`` clones what has a positive advantage, ``"exponential"`` weighs by its
            exponential; the advantage is over the mean of the values of the policy's own actions,
            with ``_max`` over the largest.
        samples: Own actions drawn per state where they are continuous, at least 1.
        temperature: Above 0, divides the advantage for ``"exponential"``, and the value in the
            critic-weighted policy, reward units.
        max_weight: Cap on the policy's weight; for ``"exponential"``.
        candidates: Continuous actions that the critic-weighted policy values where it acts, an odd
            number; 0 for the cloned policy, whatever the actions.
        discount: In [0, 1].
        tau: Share of the way a target moves when it moves, in (0, 1].
        target_every: Updates between moves of the targets, at least 1.
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or no discrete action could pass the filter.
    """

    in_keys = TRANSITION
    targets = {"target_actor": "actor", "target_critic": "critic"}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        rule: Rule = "exponential",
        samples: int = 4,
        temperature: float = 1.0,
        max_weight: float = 20.0,
        candidates: int = 33,
        discount: float = 0.99,
        tau: float = 1.0,
        target_every: int = 100,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, temperature=temperature, max_weight=max_weight))
        check_bootstrap(discount=discount, tau=tau)
        check_ranges(at_least(1, samples=samples, target_every=target_every, critics=critics))
        weight, _, over = rule.partition("_")
        self.samples, self.baseline = samples, largest if over else Choices.expected
        self.temperature = temperature
        degrees = partial(exponential_weight, temperature=temperature, max_weight=max_weight)
        self.weigh = degrees if weight == "exponential" else binary_weight
        self.max_weight = max_weight if weight == "exponential" else math.inf
        self.discount, self.tau = discount, tau
        self.every = {"target_actor": target_every, "target_critic": target_every}
        self.actor = Policy(self.spec, network, head=head)
        if self.actor.discrete and rule == "binary_max":
            raise ValueError(
                "rule 'binary_max' clones nothing where actions are discrete: none is better than "
                "the best of all. Use rule 'binary' or 'exponential_max'"
            )
        self.critic = Critic(self.spec, network, members=critics)
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)
        self.weighted = acting(self.actor, candidates=candidates, temperature=temperature)

    @property
    def noise(self) -> dict[str, int]:
        """Return what the actions now and one next need; sums over discrete actions need none."""
        width = self.actor.drawing_noise
        return {} if self.actor.discrete else {"now": self.samples * width, "next": width}

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]`` (eq. 1)."""
        return policy_value_loss(
            batch, self.critic, self.target_actor, self.target_critic, discount=self.discount
        )

    def advantage(self, batch: TensorDict, q: Tensor) -> Tensor:
        """Return by how much values ``[E, B]`` exceed those of the policy's actions, ``[B]``."""
        now = Transition(batch)
        with torch.no_grad():
            own = choices(
                self.actor, self.critic, now.observation, now.task, now.noise_of(self.actor, "now")
            )
        return q.amin(0) - self.baseline(own)

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]`` (eq. 2)."""
        weight = self.weigh(advantage)
        return weighted_loss(Transition(batch).row_loss(self.actor), weight).mean(), weight

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

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action, see :meth:`Learner.forward`."""
        return self.weighted.mode(self.actor, self.critic, observation, task)

    def scores(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return what the argmax over discrete actions is taken of, ``[N, n]``."""
        return self.weighted.logits(self.actor, self.critic, observation, task)

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions in environment units, see :meth:`Learner.act`."""
        if draws is None:
            return super().act(observation, task)
        return self.weighted.sample(self.actor, self.critic, observation, task, draws)
