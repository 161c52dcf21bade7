"""A learner as a policy that draws its actions and states their distribution: what is exported."""

from typing import Any, Protocol

from torch import Tensor, nn

from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Decision, DrawNoise
from hindsight_rl.spec import Spec
from hindsight_rl.windows import Chunk


class Drawing(Protocol):
    """What draws: the part of a learner that is needed here."""

    actor: Any
    chunk: Chunk | None
    spec: Spec

    @property
    def draws_its_distribution(self) -> bool:
        """Whether actions with draws are those of :meth:`distribution`."""

    def distribution(self, observation: Observation, task: Tensor | None = None) -> Any:
        """Return the distribution of actions."""

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the state with which n episodes begin."""


def not_drawn(learner: Drawing) -> str:
    """Return why no file of a learner draws its actions and states how likely they are.

    Args:
        learner: The learner.

    Returns:
        A clause, "" where there is such a file.
    """
    if learner.chunk is not None:
        return "its answers are chunks, and the density of a chunk is not that of a step"
    if learner.initial_state(1):
        return "it keeps a state from step to step"
    if not learner.draws_its_distribution:
        return "it does not draw its actions from a distribution that it states"
    if learner.spec.action.discrete:
        return ""
    if not isinstance(learner.actor, Policy):
        return "its policy has no density"
    return learner.actor.family.not_drawn


class DrawnPolicy(nn.Module):
    """What is exported of a learner whose file draws; see ``export/exportable.py``.

    Args:
        learner: The learner, of which :func:`not_drawn` says nothing.

    Attributes:
        spec: That of the learner.
    """

    def __init__(self, learner: Drawing) -> None:
        super().__init__()
        self.learner: Any = learner
        self.spec = learner.spec

    def drawing_noise(self, observation: Observation, task: Tensor | None) -> DrawNoise:
        """Return what :meth:`decide` makes an action of."""
        found: DrawNoise = self.learner.distribution(observation, task).noise
        return found

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor,
    ) -> Decision:
        """Return the actions that noise ``[n, S]`` makes, and what they are drawn from."""
        distribution, scale = self.learner.distribution(observation, task), self.learner.actor.scale
        sample, scores = distribution.from_noise(noise)
        units = None
        if not self.spec.action.discrete:  # in float32, as all else in a graph
            units = Units(scale.centre, scale.scale, scale.low, scale.high)
        described = distribution.described(units)
        return Decision(scale.to_environment(sample), {}, scores, described)

    def log_prob(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the log-probability of executed actions, as the learner states it.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            action: ``[N, A]`` in environment units, or ``[N]`` int64 from 0.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N]``, nats.
        """
        distribution = self.learner.distribution(observation, task)
        if self.spec.action.discrete:
            found: Tensor = distribution.log_prob(action)
        else:
            found = self.learner.actor.executed(distribution, action)
        return found.double()
