"""A point: its loss is the mean squared error."""

from torch import Tensor

from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Deterministic, Distribution
from hindsight_rl.nets.heads.family import Family, Place
from hindsight_rl.nets.network import Head
from hindsight_rl.propensities import NO_DENSITY
from hindsight_rl.spec import ActionSpec


class DeterministicHead(Family):
    """One action per state, and exploration around it where it is asked for."""

    density = "none"
    relative = True

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__(head, action, scale)
        self.exploration = head.exploration or 0.0

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the point, see :meth:`Family.forward`."""
        return Deterministic(place(output), self.exploration)

    def unstated(self, units: Units) -> str:
        """Return a reason where nothing is drawn, see :meth:`Family.unstated`."""
        return self.not_drawn

    @property
    def not_drawn(self) -> str:
        """Return a reason where nothing is drawn, see :attr:`Family.not_drawn`."""
        return "" if self.exploration else NO_DENSITY


FAMILY = DeterministicHead
