"""Trust region policy optimization (TRPO): one step per round, as long as the KL allows.

    maximise g'd  subject to  d'F d / 2 <= radius,     F = Hessian of E[ KL(pi_old || pi) ]
    d = sqrt(2 radius / x'F x) x,   (F + damping I) x = g = grad E[ rho A ]   (appendix C)
    L_V = E[ ((G - V(s)) / value_scale)^2 ] / 2,       rho = pi(a | s) / pi_old(a | s)

The step is cut to 0.8, 0.8^2, ... of its length until E[ KL ] <= radius and E[ rho A ] has grown,
eq. 14. A and G are those of a sweep of the round, with the value at its start: generalized
advantages and TD(lambda) returns. x comes of conjugate gradients, F is never written down.

Reference: Schulman et al. 2015, "Trust region policy optimization", arXiv 1502.05477. Advantages:
Schulman et al. 2016, arXiv 1506.02438. Networks, rates and numbers: Raffin et al. 2021,
"Stable-Baselines3", and its contributed TRPO.

Deviations:
- The length of the step is by F alone; the contributed TRPO of stable-baselines3 adds the damping
  there too, and its steps are shorter.
- The KL is that of draws before they are clipped to the bounds: no less than that of what is
  executed. Ratios are of what is executed, as those of PPO here.
- Rounds are whole episodes, advantages are standardised over the round, and V learns by Adam.

Update order: sweep and the policy's one step, when a round begins; then value, batch by batch.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths.divergences import categorical_kl, normal_kl
from hindsight_rl.maths.natural_gradient import hessian_product, natural_step, shortened
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.layers import FlatWeights, start_orthogonal
from hindsight_rl.nets.network import Head, TanhNetwork
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.training.round_pass import RoundPass
from hindsight_rl.training.sweep import Scaling

_NEVER = 2**62  # updates between two of the optimiser's steps of the policy


class TRPO(Learner):
    """A policy that takes one step of bounded KL along the natural gradient, once a round.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`TanhNetwork`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        radius: Largest mean KL of a step, nats, above 0.
        damping: Added to the diagonal of F, at least 0.
        iterations: Of conjugate gradients, at least 1.
        shrink: Of the length of a step that is refused, in (0, 1).
        tries: Lengths that are tried, at least 1.
        discount: In [0, 1].
        lambda_: In [0, 1]; 0 is the error of one step, 1 the return less the value.
        scaling: ``"standardised"`` gives the advantages of the round mean 0 and standard deviation
            1, ``"raw"`` leaves them in reward units.
        value_scale: Unit of the value network's output, reward units, above 0.
        **learner: Arguments of :class:`Learner`; of the policy no ``learning_rates`` and no
            ``decay``, and ``freeze`` counts updates before its first step.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = ("observation", "action", "action_log_prob")
    rates = {"value": 1e-3}
    every = {"actor": _NEVER}
    asymmetric = True
    actor: Policy
    share: Tensor
    divergence: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: TanhNetwork = TanhNetwork(),
        head: Literal["gaussian", "tanh_gaussian"] | Head = Head(squash_mean=False),
        radius: float = 0.01,
        damping: float = 0.1,
        iterations: int = 15,
        shrink: float = 0.8,
        tries: int = 10,
        discount: float = 0.99,
        lambda_: float = 0.95,
        scaling: Scaling = "standardised",
        value_scale: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, radius=radius, value_scale=value_scale))
        check_ranges(at_least(0, damping=damping))
        check_ranges(at_least(1, iterations=iterations, tries=tries))
        check_ranges(within("(0, 1)", shrink=shrink))
        for what in ("learning_rates", "decay"):
            if "actor" in (learner.get(what) or {}):
                raise ValueError(f"{what} of 'actor': no rate moves it, its steps have a radius")
        self.radius, self.damping, self.iterations = radius, damping, iterations
        self.shrink, self.tries = shrink, tries
        head = Head.of(head, "gaussian", "tanh_gaussian")
        self.actor = Policy(self.spec, network, head=head)
        self.value = ValueNet(self.critic_spec, network, scale=value_scale)
        start_orthogonal(self.actor.net, 0.01)
        start_orthogonal(self.value.net, 1.0)
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("divergence", torch.zeros(()))
        self.log_pass = RoundPass(
            self.improve,
            self.read,
            self._fitting,
            value=self.value,
            discount=discount,
            lambda_=lambda_,
            scaling=scaling,
            beside=self.critic_reads,
        )

    def _fitting(self) -> bool:
        return self._trainer is not None and bool(self.trainer.training)

    def kl(self, old: Any, new: Any) -> Tensor:
        """Return KL(old || new) of two of the policy's distributions, ``[B]``, nats."""
        if self.actor.discrete:
            share = torch.softmax(old.logits, -1).movedim(-1, 0)
            return categorical_kl(share, torch.log_softmax(new.logits, -1).movedim(-1, 0))
        return normal_kl(old.mean, old.log_std, new.mean, new.log_std).sum(-1)

    def gain(self, rows: TensorDict, distribution: Any) -> Tensor:
        """Return E[ rho A ] under a distribution of the rows' actions, ``[]`` (eq. 14)."""
        log_prob = self.actor.executed(distribution, rows["action"])
        ratio = (log_prob - rows["action_log_prob"]).to(torch.float32).exp()
        gained: Tensor = (ratio * rows["advantage"]).mean()
        return gained

    def improve(self, rows: TensorDict) -> None:
        """Move the policy by one step (section 6 and appendix C).

        Args:
            rows: TensorDict ``[N]`` of a round, with the columns of its sweep.
        """
        if self.updates < self.begins.get("actor", 0):
            return
        now, weights = Transition(rows), FlatWeights(self.actor)
        start = weights.vector
        with torch.no_grad():
            old = self.actor(now.observation, now.task)
            before = self.gain(rows, old)

        def gain(vector: Tensor) -> Tensor:
            return self.gain(rows, weights(vector, now.observation, now.task))

        def divergence(vector: Tensor) -> Tensor:
            return self.kl(old, weights(vector, now.observation, now.task)).mean()

        step = natural_step(
            hessian_product(divergence, start),
            torch.func.grad(gain)(start),
            radius=self.radius,
            damping=self.damping,
            iterations=self.iterations,
        )
        reached = shortened(
            lambda part: (gain(start + part) - before, divergence(start + part)),
            step,
            radius=self.radius,
            shrink=self.shrink,
            tries=self.tries,
        )
        weights.move(reached.share * step)
        self.share.fill_(reached.share)
        self.divergence.fill_(reached.divergence)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``; the latter is looked at, and moves nothing.

        Args:
            batch: TensorDict ``[B]`` with the columns of a sweep; ``task`` is used where it is
                there.

        Returns:
            Terms and metrics: how far the policy's last step went.
        """
        now = Transition(batch)
        distribution = self.actor(now.observation, now.task)
        error = batch["lambda_return"] - self.value(now.observation, now.task)
        metrics = {
            "kl": self.divergence.clone(),
            "share": self.share.clone(),
            "entropy": distribution.entropy().detach().mean(),
        }
        value = 0.5 * (error / self.value.scale).square().mean()
        terms = {"value": value, "actor": -self.gain(batch, distribution)}
        return LossTerms(
            terms, named("actor", metrics) | {"value/advantage": error.detach().mean()}
        )
