"""Which rows of a log are those of an expert, or of a target."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.keys import key_of
from hindsight_rl.ports import LogView
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
