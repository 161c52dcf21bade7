"""Proximal policy optimization (PPO): several passes over own episodes, each ratio kept near 1.

    L_pi = -E[ min(rho A, clip(rho, 1 - clip, 1 + clip) A) ] - entropy_weight E[ H(pi(s)) ]  (eq. 7)
    L_V  = E[ ((G - V(s)) / value_scale)^2 ] / 2,       rho = pi(a | s) / pi_old(a | s)

G is the TD(lambda) return and A = G - V, generalized advantages, both found by a sweep of the round
with the value at its start. pi_old is the policy that collected: its log-probability is the column
``action_log_prob``. In the first update of a round every ratio is 1 and the gradient is that of
-A log pi. With ``clip`` null and one pass this is the advantage actor-critic (A2C).

Reference: Schulman et al. 2017, "Proximal policy optimization algorithms", arXiv 1707.06347.
Advantages: Schulman et al. 2016, arXiv 1506.02438. A2C as a special case: Huang et al. 2022, arXiv
2205.09123. V-trace: Espeholt et al. 2018, arXiv 1802.01561. Networks, rates and first weights:
Raffin et al. 2021, "Stable-Baselines3".

Deviations:
- An action at a bound to which it was clipped counts with the mass of all that is clipped to it,
  and not with the density of the sample before clipping: the gradient has the same mean and less
  variance (Fujita and Maeda 2018, arXiv 1802.07564).
- Rounds are whole episodes; none goes on in the next round.
- Advantages are standardised over the round and not over each batch, and gradients are clipped for
  each network by itself. Networks being separate, the loss of V needs no weight.
- ``target_kl`` leaves the policy's gradient out of each update whose estimate of the KL is 1.5
  times as large, where others end the round: Adam's momentum still moves it, and V learns on.

Update order: sweep, when a round begins; then value and policy together, batch by batch.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.layers import start_orthogonal
from hindsight_rl.nets.network import Head, HeadKind, TanhNetwork
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.training.proximal import Proximal
from hindsight_rl.training.sweep import LogPass, Scaling


class PPO(Learner):
    """A policy that climbs the advantages of its own episodes, some passes over each round of them.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`TanhNetwork`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        clip: Ratios beyond [1 - clip, 1 + clip] gain nothing; in (0, 1), ``None`` for no clip.
        entropy_weight: Of the policy's entropy, at least 0.
        target_kl: The policy rests where its batch is 1.5 times as far from the policy that
            collected, nats, above 0; ``None`` for never.
        discount: In [0, 1].
        lambda_: In [0, 1]; 0 is the error of one step, 1 the return less the value.
        scaling: ``"standardised"`` gives the advantages of the round mean 0 and standard deviation
            1, ``"raw"`` leaves them in reward units.
        value_scale: Unit of the value network's output, reward units, above 0.
        sweep_every: Updates between sweeps; 0 for one whenever rows have changed, as every round
            does.
        max_ratio: Cap, at least 1, of the ratios by which sweeps correct returns of another policy
            (V-trace): within a round, or of a log with probabilities. ``None`` for no correction.
        clip_norm: Largest gradient norm of each network, clipped separately; ``None`` for no limit.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or the head has no exact density.
    """

    in_keys = ("observation", "action", "action_log_prob")
    asymmetric = True
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: TanhNetwork = TanhNetwork(),
        head: HeadKind | Head = Head(squash_mean=False),
        clip: float | None = 0.2,
        entropy_weight: float = 0.0,
        target_kl: float | None = None,
        discount: float = 0.99,
        lambda_: float = 0.95,
        scaling: Scaling = "standardised",
        value_scale: float = 1.0,
        sweep_every: int = 0,
        max_ratio: float | None = None,
        clip_norm: float | None = 0.5,
        **learner: Any,
    ) -> None:
        super().__init__(spec, clip_norm=clip_norm, **learner)
        self.proximal = Proximal(clip, entropy_weight, target_kl)
        self.proximal.check()
        check_ranges(above(0, value_scale=value_scale))
        check_ranges(at_least(1, max_ratio=max_ratio), note=" or null")
        self.actor = Policy(self.spec, network, head=head)
        check_exact("PPO", self.actor, "ratios of two policies are ratios of densities")
        self.value = ValueNet(self.critic_spec, network, scale=value_scale)
        start_orthogonal(self.actor.net, 0.01)
        start_orthogonal(self.value.net, 1.0)
        self.log_pass = LogPass(
            every=sweep_every,
            value=self.value,
            discount=discount,
            lambda_=lambda_,
            scaling=scaling,
            log_ratio=None if max_ratio is None else lambda batch: self.log_ratio(batch)[0],
            max_ratio=max_ratio or 1.0,
            beside=self.critic_reads,
        )

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, in units of its scale, and by how much G exceeds V."""
        now = Transition(batch)
        error = batch["lambda_return"] - self.value(now.observation, now.task)
        return 0.5 * (error / self.value.scale).square().mean(), error.detach()

    def log_ratio(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return log pi - log pi_old of the actions, and the entropy of pi, ``[B]`` each, nats."""
        now = Transition(batch)
        distribution = self.actor(now.observation, now.task)
        log_prob = self.actor.executed(distribution, now.action) - batch["action_log_prob"]
        return log_prob.to(torch.float32), distribution.entropy()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the policy, ``[]``, and its metrics (eq. 7)."""
        return self.proximal.loss(*self.log_ratio(batch), batch["advantage"], self.batch_mean)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with the columns of a sweep; ``task`` is used where it is
                there.

        Returns:
            Terms and metrics.
        """
        value, error = self.value_loss(batch)
        actor, metrics = self.actor_loss(batch)
        metrics = named("actor", metrics) | {"value/advantage": error.mean()}
        return LossTerms({"value": value, "actor": actor}, metrics)
