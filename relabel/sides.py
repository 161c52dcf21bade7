"""Two sides of a log, an expert's or a target's rows and the others, and what learns from both."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.keys import Key, key_of
from hindsight_rl.maths.draws import fork, integers
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned import LearnedStep
from hindsight_rl.relabel.relabeler import number_column


class Sides(NamedTuple):
    """The drawable rows of a log, ``[M]`` int64 each, in order."""

    own: Tensor
    other: Tensor
    """None yet where experience is still to be collected."""


def two_sides(
    log: LogView, column: str | None, name: str, whose: Literal["expert", "target"]
) -> Sides:
    """Return the rows of an expert or a target, and the others.

    Args:
        log: The log.
        column: Says of each row whether it is theirs (above 0); ``None``: the rows of the first
            source are.
        name: Of the relabeler, for messages.
        whose: Rows are told from others, for messages: the argument that names the column.

    Returns:
        Both sides.

    Raises:
        ValueError: The log has one source only, or a side has no row that may be drawn.
    """
    rows = log.drawable()
    if column is not None:
        why = f"to tell {whose} rows by ({name})"
        own = number_column(log, key_of(column), why)[rows] > 0
        awaited = False
    else:
        first, *others = log.sources
        if not others:
            raise ValueError(
                f"{name} takes the rows of the first of several sources as the {whose}'s, and "
                f"{first.name} is the only one: give data.source [{whose.upper()}, LOG]; where "
                f"experience is collected data.source {whose.upper()} with data.mix {{log: 0.5, "
                f"collected: 0.5}}; or name a column of the log in '{whose}'"
            )
        own = (rows >= first.start) & (rows < first.stop)
        awaited = all(one.start == one.stop for one in others)
    sides = Sides(rows[own], rows[~own])
    for side, what in ((sides.own, f"the {whose}'s"), (sides.other, "anybody else's")):
        if not len(side) and not (side is sides.other and awaited):
            where = "the first source" if column is None else f"'{column}' above 0"
            raise ValueError(
                f"{name}: no row that may be drawn is {what} (the {whose}'s are those of {where}): "
                "give both, and check what validation and filters leave"
            )
    return sides


def spread_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread ``[F]`` of numbers ``[N, F]``, 1 where they hardly vary."""
    std = rows.std(0, correction=0)
    return rows.mean(0), torch.where(std > 1e-6, std, 1.0)


class TwoSides(LearnedStep):
    """Base class of data steps that learn to tell two sides of a log apart.

    Beside each row of a batch a row of each side is drawn, and the network learns from those.

    Attributes:
        judges: What it does with single steps, for messages.
    """

    shared = True
    judges: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._choices, self._seen_updates = 0, 0
        self._mean = self._std = torch.empty(0)
        self._sides: dict[str, Tensor] = {}

    @property
    def updates(self) -> int:
        """Updates seen."""
        return self._seen_updates

    @property
    def prepare_reads(self) -> tuple[Key, ...]:
        """Nothing that an earlier part may rewrite: it would have to be the same on both sides."""
        return ()

    @abstractmethod
    def prepare(self, log: LogView) -> "TwoSides":
        """Return a copy that knows both sides; see :meth:`Relabeler.prepare`."""

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """Return a row of each side for each row.

        Args:
            index: ``[K, B]`` int64 row numbers.
            draws: ``[K, B, 3]`` int64 counters.

        Returns:
            Row numbers ``[K, B]`` int64 by name of the side.
        """
        drawn = ((name, rows, fork(draws, name)) for name, rows in self._sides.items())
        return {name: rows[integers(key, len(rows))] for name, rows, key in drawn}

    def _check_steps(self, log: LogView) -> None:
        """Raise where rows stand for several steps."""
        if "discount" in log:
            raise ValueError(
                f"{type(self).__name__} {self.judges} single steps, and rows with a 'discount' "
                "stand for several: leave NStep out"
            )

    def _further_state(self) -> dict[str, Any]:
        """Return the number of updates and the statistics of inputs."""
        return {"updates": self._seen_updates, "mean": self._mean, "std": self._std}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        self._seen_updates = state["updates"]
        self._mean, self._std = state["mean"], state["std"]
