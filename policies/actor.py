"""Actor: what acts in a learner, a policy network or something in its place."""

from typing import Protocol

from torch import Tensor

from hindsight_rl.nets.distributions import Distribution


class Units(Protocol):
    """Converts actions between environment units and policy units."""

    def to_environment(self, action: Tensor) -> Tensor:
        """Return actions ``[..., A]`` in environment units."""


class Actor(Protocol):
    """What :class:`hindsight_rl.training.learner.Learner` asks of its attribute ``actor``.

    A learner whose ``actor`` is another kind of network overrides ``forward``, ``scores`` and
    ``act``.
    """

    @property
    def scale(self) -> Units:
        """Its units."""

    def __call__(self, observation: Tensor, task: Tensor | None = None) -> Distribution:
        """Return the distribution of actions in policy units."""

    def mode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the likeliest action in environment units."""
