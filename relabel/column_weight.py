"""A weight from any column of the log, standardised."""

from typing import Literal

import torch

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import key_of
from hindsight_rl.maths.weights import exponential_weight
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler, number_column


class ColumnWeight(Relabeler):
    """Adds ``weight``: min(exp(z / temperature), max_weight), z a standardised column.

    Mean and standard deviation are those of the rows that may be drawn.

    Args:
        column: One number per row, as it is printed: ``return_to_go``, ``advantage``,
            ``next.reward``.
        temperature: Divides z, above 0.
        max_weight: Cap, above 0.
        prefer: ``"low"`` weighs by -z: for costs, such as ``quality.jerk``.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) the column is no number per row.

    Reference:
        Kumar, Peng and Levine 2019, arXiv 1912.13465, section 4.3.
    """

    out_keys = ("weight",)

    def __init__(
        self,
        column: str = "return_to_go",
        temperature: float = 1.0,
        max_weight: float = 20.0,
        prefer: Literal["high", "low"] = "high",
    ) -> None:
        super().__init__()
        check_choices(ColumnWeight.__init__, locals())
        if not temperature > 0 or not max_weight > 0:
            raise ValueError(
                f"temperature {temperature} and max_weight {max_weight} must be above 0"
            )
        self.column = key_of(column)
        self.in_keys = (self.column,)
        self.temperature, self.max_weight, self.prefer = temperature, max_weight, prefer

    def prepare(self, log: LogView) -> "ColumnWeight":
        """Return a copy that carries the weights.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: The column is not there, or has several numbers per row.
        """
        absent = (
            "to weight by: put ReturnTask, ReturnToGo or LinearAdvantage before ColumnWeight, or "
            "name the column in the column map (extra)"
        )
        value = number_column(log, self.column, absent)
        drawn = value[log.drawable()]
        spread = drawn.std(correction=0)
        score = (value - drawn.mean()) / torch.where(spread > 0, spread, 1.0)
        score = score if self.prefer == "high" else -score
        weight = exponential_weight(score, temperature=self.temperature, max_weight=self.max_weight)
        return self.bound(columns={"weight": weight.float()})
