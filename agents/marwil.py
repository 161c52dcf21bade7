"""MARWIL: cloning weighted by how far a return lies above its state's value.

    A     = G - V(s)                                G: return to go, or its TD(lambda) estimate
    L_V   = value_weight / 2 * E[A^2]
    L_pi  = -E[ exp(beta A / c) log pi(a | s) ]

c is the running root mean square of A: c^2 <- c^2 + norm_rate (mean(A^2) - c^2), updated before it
is used. beta 0 is behaviour cloning.

Reference: Wang, Xiong, Han, Sun, Liu and Zhang 2018, "Exponentially weighted imitation learning for
batched historical data", NeurIPS, algorithm 1. Constants of the running norm as in RLlib.

Deviations:
- Policy and value have separate networks, so value_weight sets a rate, not a trade-off.
- With a ``lambda_``, returns bootstrap at time limits (Monte Carlo returns end there with 0) and
  come from a sweep over the log every ``sweep_every`` updates. That is twice as often as AWR's:
  here returns under an old V are compared with the present one.
- ``norm``: ``"marwil"`` as above, ``"batch_std"`` the batch's standard deviation, ``"none"`` c = 1.

Update order: value and policy together; the policy is weighed with the value before the step.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.weights import marwil_weight, weight_metrics
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.training.sweep import LogPass


class MARWIL(Learner):
    """Cloning weighted by the exponential of how much better an action was than its state's value.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        beta: At least 0, multiplies the advantage.
        value_weight: Factor of the value loss, at least 0.
        norm: What the advantage is divided by.
        norm_start: First value of the running mean square, above 0, reward units squared.
        norm_rate: Step of the running mean square, in [0, 1].
        max_weight: Cap on the weight; the paper has none.
        lambda_: In [0, 1], of TD(lambda) returns, which a sweep of the log gives; ``None`` for
            Monte Carlo returns, the key ``return_to_go`` (relabeler ``ReturnToGo``).
        discount: In [0, 1]; with a ``lambda_``.
        sweep_every: Updates between sweeps of the log; with a ``lambda_``.
        **learner: Arguments of :class:`Learner`.
    """

    square_mean: Tensor
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        beta: float = 1.0,
        value_weight: float = 1.0,
        norm: Literal["marwil", "batch_std", "none"] = "marwil",
        norm_start: float = 100.0,
        norm_rate: float = 1e-8,
        max_weight: float = float("inf"),
        lambda_: float | None = None,
        discount: float = 0.99,
        sweep_every: int = 100,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        weights = at_least(0, beta=beta, value_weight=value_weight)
        running = above(0, norm_start=norm_start), within("[0, 1]", norm_rate=norm_rate)
        check_ranges(weights, *running)
        check_ranges(above(0, max_weight=max_weight))
        check_ranges(at_least(1, sweep_every=sweep_every))
        self.beta, self.value_weight, self.max_weight = beta, value_weight, max_weight
        self.norm, self.norm_rate = norm, norm_rate
        self.actor = Policy(self.spec, network, head=head)
        self.value = ValueNet(self.spec, network)
        self.register_buffer("square_mean", torch.tensor(float(norm_start)))
        # Built for either kind of return: it raises on wrong arguments.
        swept = 1.0 if lambda_ is None else lambda_
        log_pass = LogPass(every=sweep_every, value=self.value, discount=discount, lambda_=swept)
        self.target_key = "return_to_go" if lambda_ is None else "lambda_return"
        self.in_keys = ("observation", "action")
        if lambda_ is None:
            self.in_keys += (self.target_key,)
        else:
            self.log_pass = log_pass

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, and the advantage ``[B]`` of the logged actions."""
        now = Transition(batch)
        value = self.value(now.observation, now.task)
        advantage = batch[self.target_key] - value
        return self.value_weight * 0.5 * advantage.square().mean(), advantage.detach()

    def mean_square(self, advantage: Tensor) -> Tensor:
        """Return c squared, ``[]``; the running one moves while training."""
        if self.norm == "none":
            return torch.ones_like(self.square_mean)
        if self.norm == "batch_std":
            return self.batch_mean((advantage - self.batch_mean(advantage)).square())
        now = self.batch_mean(advantage.square())
        moved = self.square_mean + self.norm_rate * (now - self.square_mean)
        if self.training:
            self.square_mean.copy_(moved)
        return moved

    def actor_loss(self, batch: TensorDict, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]``."""
        rows = Transition(batch).row_loss(self.actor)
        weight = marwil_weight(
            advantage, self.mean_square(advantage), beta=self.beta, max_weight=self.max_weight
        )
        return weighted_loss(rows, weight).mean(), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with ``return_to_go`` or ``lambda_return``; ``task`` is used
                where it is there.

        Returns:
            Terms and metrics.
        """
        value, advantage = self.value_loss(batch)
        actor, weight = self.actor_loss(batch, advantage)
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_weight))
        metrics |= named("actor", Transition(batch).watched(self.actor))
        metrics["value/advantage"] = advantage.mean()
        return LossTerms({"value": value, "actor": actor}, metrics)
