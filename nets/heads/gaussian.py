"""A normal distribution in each dimension, and what heads with a mean and a spread share."""

from typing import ClassVar

from torch import Tensor

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import DiagonalNormal, Distribution, Laplace, TanhNormal
from hindsight_rl.nets.heads.family import Family, Place
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec


class SpreadFamily(Family):
    """Heads of a mean and a spread in each dimension, the spread shared or a network output.

    Args:
        head: As in :class:`Family`.
        action: As in :class:`Family`.
        scale: As in :class:`Family`.

    Attributes:
        made: The distribution, of means ``[..., A]`` and logs of spreads.
    """

    made: ClassVar[type[DiagonalNormal] | type[Laplace] | type[TanhNormal]]
    relative = True

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__(head, action, scale)
        self.shared_spread = head.spread == "shared"
        self.outputs = self.width * (1 if self.shared_spread else 2)
        self.log_std_range = head.log_std_range

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution, see :meth:`Family.forward`."""
        if log_std is None:
            mean, raw = output.chunk(2, dim=-1)
        else:
            mean, raw = output, log_std.expand_as(output)
        return self.made(place(mean), raw.clamp(*self.log_std_range))


class GaussianHead(SpreadFamily):
    """Normal distributions, not squashed; their mean may be."""

    made = DiagonalNormal


FAMILY = GaussianHead
