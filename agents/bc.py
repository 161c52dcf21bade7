"""Behaviour cloning (BC): imitate every logged action.

    L(theta) = -E_log[ w log pi_theta(a | s, z) ]

where w is the data step's weight (1 where there is none) and z the task (absent where there is
none). With other data steps this one file is filtered cloning, EMRL, RWR, goal-conditioned and
return-conditioned supervised learning.

Reference: Pomerleau 1991, "Efficient training of artificial neural networks for autonomous
navigation"; weighted form: Dayan and Hinton 1997.

Deviations: none. The weight is averaged with the loss, not normalised within the batch.

Update order: one network, one step.
"""

from collections.abc import Sequence
from typing import Any

from tensordict import TensorDict

from hindsight_rl.maths.losses import weighted_nll
from hindsight_rl.maths.weights import uniform_weight, weight_metrics
from hindsight_rl.nets.policy import Head, Policy, Spread
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms


class BC(Learner):
    """Weighted negative log-likelihood of the logged actions.

    Args:
        spec: What the data look like.
        hidden: Width of each hidden layer.
        frequencies: Of sines and cosines of the inputs, see :class:`Inputs`: for few numbers with
            edges, such as positions among walls.
        head: Distribution of continuous actions; ``"deterministic"`` gives the mean squared error,
            ``"laplace"`` the mean absolute error with a learned spread.
        spread: Spread of a Gaussian head: one for all states, or a network output.
        squash_mean: Pass the mean through tanh where actions are bounded.
        relative_to: Observation entries that continuous actions are relative to, one per action
            dimension; see :class:`hindsight_rl.nets.policy.Policy`.
        task_scale: Divides each number of the task, above 0, instead of the log's statistics.
        gate_task: Have the task gate the first layer instead of standing beside the observation.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys = ("observation", "action")
    optional_keys = ("task", "weight")
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        hidden: Sequence[int] = (256, 256),
        frequencies: int = 0,
        head: Head = "gaussian",
        spread: Spread = "shared",
        squash_mean: bool = True,
        relative_to: Sequence[int] | None = None,
        task_scale: Sequence[float] | None = None,
        gate_task: bool = False,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        self.actor = Policy(
            self.spec,
            hidden,
            head=head,
            spread=spread,
            squash_mean=squash_mean,
            relative_to=relative_to,
            task_scale=task_scale,
            gate_task=gate_task,
            frequencies=frequencies,
        )

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]``; ``weight`` and ``task`` are used where they are there.

        Returns:
            Terms and metrics.
        """
        distribution = self.actor(batch["observation"], batch.get("task", None))
        log_prob = distribution.log_prob(self.actor.scale.to_policy(batch["action"]))
        metrics = {"actor/entropy": distribution.entropy().detach().mean()}
        weight = batch.get("weight", None)
        if weight is None:
            weight = uniform_weight(log_prob)
        else:
            metrics |= {f"actor/{name}": value for name, value in weight_metrics(weight).items()}
        return LossTerms({"actor": weighted_nll(log_prob, weight).mean()}, metrics)
