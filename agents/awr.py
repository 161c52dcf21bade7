"""Advantage-weighted regression (AWR): cloning weighted by advantages that sweeps of a log give.

    L_V  = E[ ((G - V(s)) / value_scale)^2 ] / 2
    L_pi = -E[ min(exp(A / temperature), max_weight) log pi(a | s) ]

G is the TD(lambda) return under the value of the last sweep, A = G - V at that sweep. With
``scaling="standardised"`` A is standardised over the whole log and the temperature is 1, as in the
authors' code; with ``"raw"`` it stays in reward units, as in the paper, whose temperature is 0.05:
on most returns every weight is then 0 or the cap.

Reference: Peng, Kumar, Zhang and Levine 2019, "Advantage-weighted regression: simple and scalable
off-policy reinforcement learning", arXiv 1910.00177, algorithm 1.

Deviations:
- The log is fixed: nothing is collected between iterations.
- Value and policy step together, and the log is swept every ``sweep_every`` updates; the paper
  alternates 200 value steps and 1000 policy steps per sweep.
- Adam instead of SGD with momentum.
- The spread is learned (the authors': 0.2 to 0.4, fixed), a tanh keeps the mean within the bounds
  (theirs: a penalty of weight 10), 2 layers of 256 units (128 and 64).

Update order: sweep (when due), then value and policy together; the value of the sweep weighs the
actor.
"""

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.weights import exponential_weight, weight_metrics
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.training.sweep import LogPass, Scaling


class AWR(Learner):
    """Cloning weighted by the exponential of an advantage that a sweep of the whole log gives.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        scaling: ``"standardised"`` gives the advantages of the log mean 0 and standard deviation 1,
            ``"raw"`` leaves them in reward units.
        temperature: Above 0, divides the advantage; infinite is behaviour cloning.
        max_weight: Cap on the policy's weight.
        discount: In [0, 1].
        lambda_: In [0, 1].
        value_scale: Unit of the value network's output, reward units, above 0; ``None`` for
            1 / (1 - discount), as in the authors' code.
        sweep_every: Updates between sweeps of the log.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = ("observation", "action")
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        scaling: Scaling = "standardised",
        temperature: float = 1.0,
        max_weight: float = 20.0,
        discount: float = 0.99,
        lambda_: float = 0.95,
        value_scale: float | None = None,
        sweep_every: int = 200,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, temperature=temperature, max_weight=max_weight))
        if not 0 <= discount < 1 and value_scale is None:
            raise ValueError(f"discount is {discount}: below 1, or give value_scale")
        check_ranges(above(0, value_scale=value_scale), note=" or null")
        check_ranges(at_least(1, sweep_every=sweep_every))
        self.temperature, self.max_weight = temperature, max_weight
        self.actor = Policy(self.spec, network, head=head)
        self.value = ValueNet(
            self.spec,
            network,
            scale=value_scale or 1.0 / (1.0 - discount),
        )
        self.log_pass = LogPass(
            every=sweep_every,
            value=self.value,
            discount=discount,
            lambda_=lambda_,
            scaling=scaling,
        )

    def value_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, in units of its scale, and by how much G exceeds V."""
        now = Transition(batch)
        value = self.value(now.observation, now.task)
        advantage = batch["lambda_return"] - value
        return 0.5 * (advantage / self.value.scale).square().mean(), advantage.detach()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the policy, ``[]``, and its weights ``[B]``."""
        rows = Transition(batch).row_loss(self.actor)
        weight = exponential_weight(
            batch["advantage"], temperature=self.temperature, max_weight=self.max_weight
        )
        return weighted_loss(rows, weight).mean(), weight

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with the columns of a sweep; ``task`` is used where it is
                there.

        Returns:
            Terms and metrics.
        """
        value, advantage = self.value_loss(batch)
        actor, weight = self.actor_loss(batch)
        metrics = named("actor", weight_metrics(weight, max_weight=self.max_weight))
        metrics |= named("actor", Transition(batch).watched(self.actor))
        metrics["value/advantage"] = advantage.mean()
        return LossTerms({"value": value, "actor": actor}, metrics)
