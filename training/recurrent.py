"""What learners have in common whose policy carries what it saw from step to step."""

from typing import Any

from torch import Tensor

from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Decision
from hindsight_rl.training.acting import Acts


def memory_of(network: Policy | ValueNet) -> RecurrentInputs:
    """Return what remembers in a network.

    Args:
        network: One with recurrent inputs.

    Returns:
        These inputs.

    Raises:
        TypeError: It has none.
    """
    if not isinstance(network.inputs, RecurrentInputs):
        raise TypeError(f"this {type(network).__name__} has no recurrent inputs")
    return network.inputs


class Remembers(Acts):
    """Acts by a policy with recurrent inputs; stands before :class:`Learner` among the bases."""

    actor: Policy

    @property
    def memory(self) -> RecurrentInputs:
        """What remembers."""
        return memory_of(self.actor)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action of an episode's first step."""
        return self.decide(observation, task, self.initial_state(rows_of(observation))).action

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return what is remembered where episodes begin, ``[n, H]`` zeros."""
        return self.memory.initial(n)

    def distribution_after(
        self, observation: Observation, task: Tensor | None, state: dict[str, Tensor]
    ) -> tuple[Any, dict[str, Tensor]]:
        """Return the distribution of actions, and what is remembered after."""
        features, moved = self.memory.step(observation, task, state)
        return self.actor.distribution(features, observation), moved

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the actions taken, and what is remembered after, see :meth:`Acts.decide`."""
        distribution, moved = self.distribution_after(observation, task, state)
        action, scores = self.actor.chosen(distribution, noise)
        return Decision(action, moved, scores)
