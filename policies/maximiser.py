"""Maximiser: acts by values whose best real action is known."""

from collections.abc import Callable

from torch import Tensor

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Deterministic


class Maximiser:
    """Acts where values are largest: in place of a policy network.

    Args:
        best: ``(observation, task) -> [..., A]``, policy units, not clipped.
        scale: Units and bounds of actions.
        exploration: Standard deviation of the noise on drawn actions, policy units.
    """

    discrete = False

    def __init__(
        self, best: Callable[..., Tensor], scale: ActionScale, exploration: float = 0.0
    ) -> None:
        self.best, self.scale, self.exploration = best, scale, exploration

    def __call__(self, observation: Tensor, task: Tensor | None = None) -> Deterministic:
        """Return the best action as a point, with exploration around it; policy units."""
        return Deterministic(self.best(observation, task), self.exploration)

    def mode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the best action ``[..., A]``, environment units, within the bounds."""
        return self.scale.to_environment(self.best(observation, task))
