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

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import Key
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.maths.weights import uniform_weight, weight_metrics
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.encoders.history import (
    Past,
    PastInputs,
    empty_past,
    follow,
    hidden_past,
    past_inputs,
)
from hindsight_rl.nets.network import Head, HeadKind, History, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named
from hindsight_rl.windows import Window

PAST = ("observation", "action", "valid")


class BC(Learner):
    """Weighted negative log-likelihood of the logged actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        history: P, past steps that the policy sees beside the present, 0 for none; or in full, with
            what they hold and how they are read: :class:`History`.
        **learner: Arguments of :class:`Learner`.
    """

    in_keys: tuple[Key, ...] = ("observation", "action")
    optional_keys = ("task", "weight")
    action_windows = {"history": "executed"}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        history: int | History = 0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        self.history = history = History.of(history)
        memory = past_inputs(self.spec, network, history)
        self.actor = Policy(self.spec, network, head=head, memory=memory)
        self.window = Window(history=history.steps)
        if history.steps:
            names = [name for name in PAST if history.actions or name != "action"]
            self.action_state = "action" if history.actions else None
            self.in_keys = (*type(self).in_keys, *(("history", name) for name in names))

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs to have its past hidden; none where nothing is."""
        hides = self.history.steps and (self.history.hide_past or self.history.hide_steps)
        return {"past": 1 + self.history.steps} if hides else {}

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``, see :meth:`Learner.losses`."""
        now = Transition(batch)
        distribution = self.actor(now.observation, now.task, self._past(batch))
        rows = -distribution.log_prob(self.actor.scale.to_policy(now.action))
        metrics = named("actor", self.actor.family.metrics(distribution))
        weight = now.weight
        if weight is None:
            weight = uniform_weight(rows)
        else:
            metrics |= named("actor", weight_metrics(weight))
        return LossTerms({"actor": weighted_loss(rows, weight).mean()}, metrics)

    def _past(self, batch: TensorDict) -> Past | None:
        """Return the past of a batch, of which some is hidden while training."""
        history = self.history
        if not history.steps:
            return None
        past: Past = batch["history"]
        if not (self.training and self.noise):
            return past
        noise = batch["noise", "past"]
        return hidden_past(past, noise, whole=history.hide_past, steps=history.hide_steps)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action; with a history, that of an episode's first step."""
        return self.decide(observation, task, self.initial_state(rows_of(observation))).action

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the past of episodes that begin; empty without a history."""
        inputs, history = self.actor.inputs, self.history
        if not isinstance(inputs, PastInputs):
            return {}
        return empty_past(
            self.spec,
            history.steps,
            n,
            self.device,
            actions=history.actions,
            features=inputs.features,
        )

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the actions that are taken, and the past after them, see :meth:`Acts.decide`."""
        inputs = self.actor.inputs
        if not isinstance(inputs, PastInputs):
            action, scores = self.actor.chosen(self.actor(observation, task), noise)
            return Decision(action, {}, scores)
        features = inputs.encode(observation)  # once: for now, and to be remembered
        joined = inputs.joined(features, task, state or None)
        action, scores = self.actor.chosen(self.actor.distribution(joined, observation), noise)
        moved = follow(state, **inputs.kept(observation, features), action=action)
        return Decision(action, moved, scores)
