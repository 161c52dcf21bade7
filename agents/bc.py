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

from typing import Any, cast

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.weights import uniform_weight, weight_metrics
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.encoders.history import HistoryInputs
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.windows import Window

PAST = (("history", "observation"), ("history", "action"), ("history", "valid"))


class BC(Learner):
    """Weighted negative log-likelihood of the logged actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        history: P, past steps that the policy sees beside the present; 0 for none.
        past_actions: Whether they hold actions too. Where actions follow each other closely, a
            policy that sees the last one may learn to repeat it.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys: tuple[Key, ...] = ("observation", "action")
    optional_keys = ("task", "weight")
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        history: int = 0,
        past_actions: bool = True,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        self.actor = Policy(
            self.spec, network, head=head, history=history, past_actions=past_actions
        )
        self.window = Window(history=history)
        if history:
            self.action_state = "action"
            self.in_keys = (*type(self).in_keys, *PAST)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``, see :meth:`Learner.losses`."""
        now, past = Transition(batch), batch["history"] if self.window.history else None
        distribution = self.actor(now.observation, now.task, past)
        rows = -distribution.log_prob(self.actor.scale.to_policy(now.action))
        metrics = named("actor", self.actor.family.metrics(distribution))
        weight = now.weight
        if weight is None:
            weight = uniform_weight(rows)
        else:
            metrics |= named("actor", weight_metrics(weight))
        return LossTerms({"actor": weighted_loss(rows, weight).mean()}, metrics)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action; with a history, that of an episode's first step."""
        return self.decide(observation, task, self.initial_state(rows_of(observation))).action

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the past of episodes that begin; empty without a history."""
        inputs = self.actor.inputs
        return inputs.initial(n) if isinstance(inputs, HistoryInputs) else {}

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the actions that are taken, and the past after them, see :meth:`Acts.decide`."""
        distribution = self.actor(observation, task, state or None)
        action, scores = self.actor.chosen(distribution, noise)
        moved = HistoryInputs.follow(state, cast(Tensor, observation), action) if state else {}
        return Decision(action, moved, scores)
