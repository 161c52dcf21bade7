"""Meta-learned cloning (MAML): weights that few rows of a new task turn into a policy for it.

    theta_i = theta - rate grad L_i(theta; support of task i),   so many times          (eq. 1)
    L(theta) = mean_i L_i(theta_i; query of task i)                                   (alg. 2)

L_i is the negative log-likelihood of logged actions. The support are rows of some episodes of a
task, the query those of another episode of it, and no policy is told which task that is: a robot,
its load, what its owner likes. At deployment the same inner steps are taken from the rows of a few
episodes (``hindsight adapt``), and the adapted weights are exported.

Reference: Finn, Abbeel and Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep
networks", arXiv 1703.03400; for imitation: Finn, Yu, Zhang, Abbeel and Levine 2017, arXiv
1709.04905; ``first`` and ``reptile``: Nichol, Achiam and Schulman 2018, arXiv 1803.02999.

Deviations:
- A task is drawn with the row that a batch draws, so as often as it has rows, or as its source is
  drawn; the authors draw tasks uniformly.
- One inner rate for all weights; it is not learned.

Update order: one network, one step.
"""

from typing import Any, Literal, Self

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.func import functional_call

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.keys import Key
from hindsight_rl.maths.inner_steps import Weights, displacement_loss, inner_steps
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, named
from hindsight_rl.windows import QUERY, SUPPORT, Shots

Rows = dict[str, Any]
"""Rows of one task: ``observation`` ``[N, O]`` or by entry, ``action`` and, if any, ``task``."""


class MAMLBC(Learner):
    """Cloning from weights that adapt to a task in few steps.

    What it says of rows before it has adapted (``validation/action_error``, ``predict``) is of no
    task in particular.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        inner_rate: Length of an inner step as a multiple of the gradient, above 0.
        inner_steps: Inner steps, at least 1.
        gradient: ``"second"``: through the inner steps; ``"first"``: without their second
            derivatives; ``"reptile"``: towards the weights after the inner steps, for which no
            query is needed.
        support: Rows that an inner step sees, at least 1.
        query: Rows that judge the adapted weights, at least 1.
        episodes: Episodes that the support is of, in [1, ``support``]: as many as there will be.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    optional_keys: tuple[Key, ...] = ()
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(100, 100)),
        head: HeadKind | Head = "gaussian",
        inner_rate: float = 0.05,
        inner_steps: int = 1,
        gradient: Literal["second", "first", "reptile"] = "second",
        support: int = 32,
        query: int = 32,
        episodes: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, inner_rate=inner_rate))
        check_ranges(at_least(1, inner_steps=inner_steps, support=support, query=query))
        check_ranges(within(f"[1, {support}]", episodes=episodes))
        self.inner_rate, self.inner_steps, self.gradient = inner_rate, inner_steps, gradient
        self.shots = Shots(support, query, episodes)
        self.actor = Policy(self.spec, network, head=head)
        names = ("observation", "action", *(() if self.spec.task is None else ("task",)))
        self.in_keys = tuple((part, name) for part in (SUPPORT, QUERY) for name in names)

    def _loss(self, weights: Weights, rows: Rows) -> Tensor:
        """Return the mean loss of rows ``[N, ...]`` of one task with these weights, ``[]``."""
        inputs = rows["observation"], rows.get("task")
        distribution = functional_call(self.actor, weights, inputs)
        action: Tensor = self.actor.scale.to_policy(rows["action"])
        log_prob: Tensor = distribution.log_prob(action)
        return -log_prob.mean()

    def adapted_weights(self, weights: Weights, support: Rows) -> Weights:
        """Return weights after the inner steps on one task, differentiable.

        Args:
            weights: Of the actor, by name.
            support: Rows of the task.

        Returns:
            Weights by name.
        """
        return inner_steps(
            lambda moved: self._loss(moved, support),
            weights,
            rate=self.inner_rate,
            steps=self.inner_steps,
            first_order=self.gradient != "second",
        )

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` of tasks, each with its support and its query.

        Returns:
            The term, the loss of the queries before and after the inner steps, and what is said of
            the distributions before.
        """
        weights: Weights = dict(self.actor.named_parameters())

        def of_task(support: Rows, query: Rows) -> tuple[Tensor, Tensor]:
            moved = self.adapted_weights(weights, support)
            after = self._loss(moved, query)
            if self.gradient != "reptile":
                return after, after
            return displacement_loss(weights, moved, rate=self.inner_rate), after

        support, query = (_rows(batch, part) for part in (SUPPORT, QUERY))
        term, after = torch.vmap(of_task)(support, query)
        with torch.no_grad():
            distribution = self.actor(query["observation"], query.get("task"))
            before = -distribution.log_prob(self.actor.scale.to_policy(query["action"]))
        metrics = self.actor.family.metrics(distribution) | {"loss_before": before.mean()}
        metrics |= {"loss_after": after.detach().mean()}
        return LossTerms({"actor": term.mean()}, named("actor", metrics))

    def adapted(self, rows: TensorDict) -> Self:
        """Return this learner after inner steps on all rows ``[N]`` of one task, see ``Adapts``."""
        weights = {name: value.detach() for name, value in self.actor.named_parameters()}
        moved = self.adapted_weights(weights, rows.to_dict())
        other = self.fresh(0)
        other.load_state_dict(self.state_dict())
        other.actor.load_state_dict(moved, strict=False)
        return other.eval()


def _rows(batch: TensorDict, part: str) -> Rows:
    """Return a part of a batch as nested dictionaries, which ``torch.vmap`` takes."""
    found: Rows = batch[part].to_dict()
    return found
