"""tanh of a normal distribution in each dimension: all its actions lie within the bounds."""

from torch import Tensor

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Distribution, TanhNormal
from hindsight_rl.nets.heads.family import Place
from hindsight_rl.nets.heads.gaussian import SpreadFamily
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec


class TanhGaussianHead(SpreadFamily):
    """Squashed normal distributions, for bounded actions.

    Args:
        head: As in :class:`Family`.
        action: As in :class:`Family`.
        scale: As in :class:`Family`.

    Raises:
        ValueError: Actions have no bounds.
    """

    made = TanhNormal
    relative = False

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__(head, action, scale)
        if not scale.bounded:
            raise ValueError(
                "head 'tanh_gaussian' needs action bounds: give action_low and action_high in the "
                "column map (--data.columns)"
            )

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution; the density is squashed, so the mean is not placed."""
        return super().forward(output, _as_it_is, log_std)


def _as_it_is(mean: Tensor) -> Tensor:
    return mean


FAMILY = TanhGaussianHead
