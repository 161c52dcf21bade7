"""Whether rows follow one another in time: each next observation is that of the following row."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hindsight_rl.keys import EPISODE, Key
from hindsight_rl.logs.agreement import Agreement
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.packed import next_key, observed
from hindsight_rl.logs.reading.entries import Observed
from hindsight_rl.logs.reading.episodes import stored_rows
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.rows import SPAN


@dataclass(frozen=True)
class Jumps:
    """Rows whose next observation is not the observation of the following row.

    Args:
        count: How many there are.
        inside: How many rows are followed by another one of their episode.
        first: The first of them, ``None`` without any.
    """

    count: int
    inside: int
    first: int | None

    @property
    def share(self) -> float:
        """Jumps per row that is followed by another one, 0 where none is."""
        return self.count / self.inside if self.inside else 0.0


NO_JUMPS = Jumps(0, 0, None)


def as_written(table: Table, part: Observed, columns: Mapping[Key, Array]) -> tuple[Array, Array]:
    """Return an observation and its next one as the source wrote them.

    Of numbers of 32 bits nobody knows how many digits they had.

    Args:
        table: Columns of the source.
        part: What is observed.
        columns: Those of the log that is made; taken where the source has not a row for each.

    Returns:
        ``[N, D]`` each.
    """
    if part.after is not None:
        now, after = stored_rows(table, part.named), stored_rows(table, part.after)
        if len(now) == len(after):
            return now, after
    return columns[part.key], columns[next_key(part.key)]


def is_vector(values: Array) -> bool:
    """Return whether a column holds real numbers ``[N, D]``, which are compared within rounding."""
    return values.ndim == 2 and values.dtype != np.uint8


def jumps_within(episode: Array, pairs: Sequence[tuple[Array, Array]]) -> Jumps:
    """Return the jumps within the episodes of a log.

    Args:
        episode: ``[N]`` number of each row's episode.
        pairs: Observations and their next ones, ``[N, D]`` each.

    Returns:
        Where a next observation is another than the observation that follows.
    """
    judges = [(now, after, Agreement(now, after)) for now, after in pairs if len(episode) > 1]
    count, rows, first = 0, 0, None
    for start in range(0, len(episode) - 1, SPAN):
        here = slice(start, min(start + SPAN, len(episode) - 1))
        following = slice(here.start + 1, here.stop + 1)
        apart = np.zeros(here.stop - here.start, bool)
        inside = episode[here] == episode[following]
        for now, after, agree in judges:
            apart |= (~agree(now[following], after[here])).any(axis=1)
        found = np.flatnonzero(apart & inside)
        first = start + int(found[0]) if first is None and len(found) else first
        count, rows = count + len(found), rows + int(inside.sum())
    return Jumps(count, rows, first)


def jumps_of(columns: Mapping[Key, Array]) -> Jumps:
    """Return the jumps within the episodes of a log's columns; images and choices are left out."""
    seen = [key for key in observed(columns) if is_vector(columns[key])]
    pairs = [(columns[key], columns[next_key(key)]) for key in seen if next_key(key) in columns]
    return jumps_within(columns[EPISODE], pairs)


def warn_of_jumps(jumps: Jumps, path: Path | str) -> None:
    """Warn where a stored next observation is not the observation of the following row.

    Either the rows are out of order, as in a replay buffer that was written as it lay, or an
    episode ended without a flag. Learners of single transitions do not mind. Returns, goals that
    were reached later, windows and stacks would be those of other episodes.

    Args:
        jumps: What was found in the source.
        path: The source.
    """
    if not jumps.count:
        return
    warnings.warn(
        f"{path}: {jumps.count:,} of {jumps.inside:,} stored next observations are not the "
        f"observation of the row that follows in the episode, first at row {jumps.first}. Returns, "
        "later goals and windows would cross these jumps. If an episode ends at each jump, or rows "
        "are shuffled, set `episode_jump: true` in the column map in place of what delimits "
        "episodes now; otherwise write the rows in the order of time",
        stacklevel=2,
    )
