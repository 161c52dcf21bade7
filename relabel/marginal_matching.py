"""State marginal matching: be where a target says, as often as it says."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.keys import NEXT_OBSERVATION
from hindsight_rl.maths.coverage import (
    marginal_reward,
    normal_kernel_log_density,
    row_log_density,
)
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.bonus import Pay, RowBonus, Sign, chosen_columns


class StateMarginalMatching(RowBonus):
    """Adds log p*(s') - log rho(s') to the reward, rho being the density of all rows of the log.

    rho is a mixture of normal kernels, fitted anew in every round of an ``IteratedDataModule`` to
    all that was collected, so that the policies so far together match p* (fictitious play): play
    one of their checkpoints, drawn anew for every episode; the last one alone matches nothing.
    After ``DIAYN`` with ``keep`` at 1 it is matching by skills.

    Args:
        coefficient: Of the bonus, at least 0; at 1 it is as large as returns of 1, at 0 rows stay
            as they are.
        keep: Factor of the reward that rows have, at least 0; the paper's is 0.
        sign: ``"bonus"`` where a policy collects; ``"penalty"`` keeps one that does not near the
            log.
        columns: Places of the next observation that are looked at; ``None`` for all.
        target: Centres of p*, a mixture of normal distributions; ``None``: all places are alike.
        spread: Their standard deviation, in the unit of the observation, above 0.
        bandwidth: Of the kernels, in the unit of the observation, above 0; ``None`` for Scott's
            rule.
        centres: Rows that kernels are about, spread evenly over the log, at least 1.
        floor: Least log rho that counts, nats.
        scale: Divide by the spread of the discounted sums of bonuses; else they are as they come.
        discount: Of these sums, in [0, 1).

    Raises:
        ValueError: An argument is out of range, or (``prepare``) columns are not there, or centres
            of p* have another width.

    Reference:
        Lee et al. 2019, arXiv 1906.05274. The released code adds -log q(z | s), whose sign is not
        the paper's; here ``DIAYN`` has the paper's.
    """

    in_keys = (NEXT_OBSERVATION,)

    def __init__(
        self,
        coefficient: float = 1.0,
        keep: float = 1.0,
        sign: Sign = "bonus",
        columns: Sequence[int] | None = None,
        target: Sequence[Sequence[float]] | None = None,
        spread: float = 1.0,
        bandwidth: float | None = None,
        centres: int = 1024,
        floor: float = -20.0,
        scale: bool = True,
        discount: float = 0.99,
    ) -> None:
        super().__init__(Pay(coefficient, keep, sign, discount, scale))
        check_ranges(above(0, spread=spread, bandwidth=bandwidth))
        check_ranges(at_least(1, centres=centres))
        self.places, self.target, self.spread = columns, target, spread
        self.bandwidth, self.centres, self.floor = bandwidth, centres, floor
        self.log_density = torch.empty(0)

    def prepare(self, log: LogView) -> "StateMarginalMatching":
        """Return a copy that knows the density of the log where each row led.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: Columns are not there, or centres of p* have another width.
        """
        other, rows = self.bound(), log.drawable()
        value = log.column(NEXT_OBSERVATION)
        value = value[:, chosen_columns(log, NEXT_OBSERVATION, self.places)]
        other.log_density = row_log_density(
            value, rows, centres=self.centres, bandwidth=self.bandwidth
        )
        bonus = marginal_reward(self._log_target(value), other.log_density, floor=self.floor)
        other._known(log, bonus)
        return other

    def _log_target(self, value: Tensor) -> Tensor:
        if self.target is None:
            return torch.zeros(len(value))
        centre = torch.tensor(self.target, dtype=value.dtype)
        if centre.ndim != 2 or centre.shape[1] != value.shape[1]:
            raise ValueError(
                f"target has shape {list(centre.shape)}: give centres of {value.shape[1]} numbers "
                "each, those that columns names"
            )
        return normal_kernel_log_density(
            value, centre, value.new_full(value.shape[1:], self.spread)
        )
