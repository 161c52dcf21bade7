"""Goals that were rarely reached, drawn more often: p_skew, for relabeling and for collecting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.keys import NEXT_ACHIEVED
from hindsight_rl.maths.coverage import row_log_density, skew_weight
from hindsight_rl.maths.draws import uniform
from hindsight_rl.ports import LogView


@dataclass(frozen=True)
class Skew:
    """How much more often a place is a goal that was reached less often: p^(1 + alpha).

    Args:
        alpha: In [-1, 0]: at 0 goals are drawn as they were reached, at -1 all places alike.
        bandwidth: Of the kernels that the density of what was reached is made of, in the unit of a
            goal, above 0; ``None`` for Scott's rule.
        centres: How many kernels, at least 1, spread evenly over the log.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Pong et al. 2020, arXiv 1903.03698, eq. 5; there the density is a variational autoencoder's.
    """

    alpha: float = -0.5
    bandwidth: float | None = None
    centres: int = 1024

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_ranges(within("[-1, 0]", alpha=self.alpha))
        check_ranges(above(0, bandwidth=self.bandwidth))
        check_ranges(at_least(1, centres=self.centres))

    def goals(self, log: LogView) -> "SkewedGoals":
        """Return the goals of a log, with how often each is drawn.

        Args:
            log: The log.

        Returns:
            What was reached in its rows that may be drawn.
        """
        reached = log.column(NEXT_ACHIEVED)[log.drawable()]
        log_density = row_log_density(
            reached, torch.arange(len(reached)), centres=self.centres, bandwidth=self.bandwidth
        )
        return SkewedGoals(reached, skew_weight(log_density, alpha=self.alpha))


class SkewedGoals:
    """Places that were reached, drawn by weight.

    Args:
        reached: ``[M, G]``.
        weight: ``[M]``, of mean 1.
    """

    def __init__(self, reached: Tensor, weight: Tensor) -> None:
        self.reached, self.weight = reached, weight
        below = weight.double().cumsum(0)
        self._below = below / below[-1]

    def sample(self, draws: Tensor) -> Tensor:
        """Return one place per counter.

        Args:
            draws: ``[..., 3]`` int64 counters.

        Returns:
            ``[..., G]``.
        """
        edges = self._below[:-1].to(draws.device)
        row = torch.searchsorted(edges, uniform(draws).double(), right=True)
        return self.reached.to(draws.device)[row]
