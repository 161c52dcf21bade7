"""Maximum a posteriori policy optimisation (MPO): imitate the better ones of the policy's actions.

    y    = r + gamma (1 - d) sum_j p_j min_k Q'_k(s', a'_j),   a'_j ~ pi'(s')
    L_Q  = sum_k E[ (y - Q_k(s, a))^2 ]
    q_j  ~ p_j exp(min_k Q'_k(s, a_j) / eta),   a_j ~ pi'(s)                            (eq. 8)
    L_eta = E[ eta (limit + log sum_j p_j exp(min_k Q'_k(s, a_j) / eta)) ]              (eq. 9)
    L_pi = E[ -sum_j q_j (log N(a_j; mu, sigma') + log N(a_j; mu', sigma)) + sum_i alpha_i KL_i ]
    L_al = E[ sum_i alpha_i (limit_i - KL_i) ]

pi' = N(mu', sigma') and Q' are the targets; p_j is 1 / ``samples``. KL_i is the divergence of pi'
from the policy that takes over the new mean alone, or the new spread alone, in one action
dimension: a jump of the mean cannot be paid for by a smaller spread. For discrete actions the a_j
are all actions, p_j = pi'(a_j | s), and L_pi has one log-probability and one divergence.

Reference: Abdolmaleki, Springenberg, Tassa, Munos, Heess and Riedmiller 2018, arXiv 1806.06920; the
decoupled M-step: Abdolmaleki et al. 2018, arXiv 1812.02256. Constants and the divergence by
dimension as in the code of Acme (google-deepmind/acme, losses/mpo.py).

Deviations:
- The target is the one-step one of the other learners here instead of Retrace, which needs the
  probabilities of the logged actions; n steps are the relabeler ``NStep``.
- Acme punishes actions beyond their bounds; here a tanh keeps the mean within them.
- For discrete actions Acme starts temperature and penalty at 3.

Update order: critics, policy, temperature and penalty together; every ``target_every`` updates
target policy and target critics become copies. The target critics weigh the actor.
"""

from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.maths.divergences import categorical_kl, normal_kl
from hindsight_rl.maths.losses import multiplier_loss, weighted_nll
from hindsight_rl.maths.mpo import improved_share, temperature_dual
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.distributions import DiagonalNormal
from hindsight_rl.nets.multiplier import Multiplier
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import choices, several
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.training.policy_values import policy_value_loss


class Improved(NamedTuple):
    """What the E-step says of the m actions of each state; nothing has a gradient but the dual."""

    weight: Tensor
    """``[m, B]``, share of each action in the improved policy."""
    share: Tensor
    """``[m, B]``, its share in the target policy."""
    dual: Tensor
    """``[B]``, what the temperature minimises, reward units."""


class MPO(Learner):
    """Cloning of the policy's own actions weighted by the soft-max of their values, within limits.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        samples: Actions drawn per state where they are continuous, at least 2.
        limit: KL divergence of the improved from the target policy, above 0, nats.
        mean_limit: KL divergence that a new mean may have, above 0, nats per action dimension; for
            discrete actions that of the whole policy.
        spread_limit: KL divergence that a new spread may have, above 0, nats per action dimension.
        initial_temperature: eta at the start, above 0, reward units.
        initial_penalty: alpha of mean and of spread at the start, above 0.
        discount: In [0, 1].
        tau: Share of the way a target moves when it moves, in (0, 1].
        target_every: Updates between moves of the targets, at least 1.
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`; ``learning_rates`` of ``temperature`` and
            ``penalty`` are 1e-2 where they are not given.
    """

    in_keys = TRANSITION
    rates = {"temperature": 1e-2, "penalty": 1e-2}
    targets = {"target_actor": "actor", "target_critic": "critic"}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        samples: int = 20,
        limit: float = 0.1,
        mean_limit: float = 2.5e-3,
        spread_limit: float = 1e-6,
        initial_temperature: float = 10.0,
        initial_penalty: tuple[float, float] = (10.0, 1000.0),
        discount: float = 0.99,
        tau: float = 1.0,
        target_every: int = 100,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(2, samples=samples), note=": one cannot be better")
        check_ranges(above(0, limit=limit, mean_limit=mean_limit, spread_limit=spread_limit))
        eta, alpha = initial_temperature, initial_penalty
        check_ranges(above(0, initial_temperature=eta, initial_penalty=alpha))
        check_bootstrap(discount=discount, tau=tau)
        check_ranges(at_least(1, target_every=target_every, critics=critics))
        self.samples, self.discount, self.tau = samples, discount, tau
        self.every = {"target_actor": target_every, "target_critic": target_every}
        self.actor = Policy(self.spec, network, head=Head("gaussian", spread="per_state"))
        self.critic = Critic(self.spec, network, members=critics)
        self.temperature = Multiplier(torch.tensor(initial_temperature), torch.tensor(limit))
        parts = [1, 0] if self.actor.discrete else [self.actor.width] * 2
        count = torch.tensor(parts)
        self.penalty = Multiplier(
            torch.tensor(initial_penalty).repeat_interleave(count),
            torch.tensor([mean_limit, spread_limit]).repeat_interleave(count),
        )
        self.target_actor = self.follow(self.actor)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return what the actions now and next need; sums over discrete actions need none."""
        width = self.samples * self.actor.width
        return {} if self.actor.discrete else dict.fromkeys(("now", "next"), width)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        return policy_value_loss(
            batch, self.critic, self.target_actor, self.target_critic, discount=self.discount
        )

    def improve(self, batch: TensorDict) -> Improved:
        """Return the E-step: the target policy's actions, better ones with a larger share."""
        now = Transition(batch)
        noise = now.noise_of(self.actor, "now")
        with torch.no_grad():
            own = choices(self.target_actor, self.target_critic, now.observation, now.task, noise)
        value, eta = own.value.amin(0), self.temperature()
        dual = temperature_dual(value, own.share, eta, limit=self.temperature.limit)
        return Improved(improved_share(value, own.share, eta), own.share, dual)

    def compare(self, batch: TensorDict, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return how likely the actions are now, ``[m, B]``, and the divergences ``[B, P]``."""
        now = Transition(batch)
        new = self.actor(now.observation, now.task)
        if self.actor.discrete:
            log_prob = torch.log_softmax(new.logits, -1).movedim(-1, 0)
            return log_prob, categorical_kl(share, log_prob).unsqueeze(-1)
        with torch.no_grad():
            old = self.target_actor(now.observation, now.task)
            # Before they are clipped to the bounds, as densities are.
            action, _ = old.act_on(several(batch["noise", "now"], self.actor.width))
        moved, spread = DiagonalNormal(new.mean, old.log_std), DiagonalNormal(old.mean, new.log_std)
        kls = [normal_kl(old.mean, old.log_std, now.mean, now.log_std) for now in (moved, spread)]
        return moved.log_prob(action) + spread.log_prob(action), torch.cat(kls, -1)

    def actor_loss(self, batch: TensorDict, improved: Improved) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its divergences ``[B, P]`` (M-step)."""
        log_prob, divergence = self.compare(batch, improved.share)
        penalty = (self.penalty().detach() * divergence).sum(-1)
        return (weighted_nll(log_prob, improved.weight).sum(0) + penalty).mean(), divergence

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic``, ``actor``, ``temperature`` and ``penalty``."""
        critic, q = self.critic_loss(batch)
        improved = self.improve(batch)
        actor, divergence = self.actor_loss(batch, improved)
        limit = self.penalty.limit
        penalty = multiplier_loss(self.penalty(), divergence, limit=limit).sum(-1).mean()
        metrics = {
            "critic/q_max": q.abs().amax(),
            "actor/kl": (divergence.detach().mean(0) / limit).amax(),
            "temperature/eta": self.temperature().detach(),
            "temperature/kl": categorical_kl(improved.weight, improved.share.log()).mean(),
        }
        terms = {"critic": critic, "actor": actor, "temperature": improved.dual.mean()}
        return LossTerms(terms | {"penalty": penalty}, metrics)
