"""Where episodes begin, and how each one ended."""

from dataclasses import dataclass

import numpy as np

from hindsight_rl.logs import checks
from hindsight_rl.logs.agreement import Agreement
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems, listed
from hindsight_rl.logs.reading.column_map import ColumnMap, Named
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.entries import observed_columns
from hindsight_rl.logs.reading.shards import check_returns, parting
from hindsight_rl.logs.reading.table import Table


@dataclass(frozen=True)
class Episodes:
    """Episodes of a log, one after another.

    Args:
        lengths: ``[E]`` int64, steps of each episode, all at least 1.
        parted: How many begin only because a file does.
    """

    lengths: Array
    parted: int = 0

    @classmethod
    def starting_at(cls, begun: Array, rows: int, parted: int = 0) -> "Episodes":
        """Return the episodes of ``rows`` rows that begin at some rows; row 0 always begins one."""
        starts = np.unique(np.r_[0, begun[begun < rows]])
        return cls(np.diff(np.r_[starts, rows]).astype(np.int64), parted)

    @property
    def count(self) -> int:
        """E, number of episodes."""
        return len(self.lengths)

    @property
    def ends(self) -> Array:
        """``[E]`` int64, row of each episode's last step."""
        return np.asarray(np.cumsum(self.lengths) - 1)

    @property
    def number(self) -> Array:
        """``[N]`` int64, number of the episode of each row."""
        return np.repeat(np.arange(self.count), self.lengths)

    @property
    def last(self) -> Array:
        """``[N]`` bool, true on the last row of each episode."""
        mask = np.zeros(int(self.lengths.sum()), bool)
        mask[self.ends] = True
        return mask


def delimit(table: Table, rows: int, findings: Problems) -> Episodes:
    """Return the episodes of a table.

    Args:
        table: Columns of the source.
        rows: N, number of actions.
        findings: Where it came from.

    Returns:
        The episodes, by the one delimiter that the column map names; without one, by the flags
        that end an episode.

    Raises:
        LogError: There is no delimiter, or it contradicts the rows.
    """
    columns = table.columns
    if columns.episode:
        return _by_number(table, columns.episode, rows, findings)
    if columns.split_indices:
        return _by_splits(
            table.values[columns.split_indices], columns.split_indices, rows, findings
        )
    if columns.episode_length:
        return _by_length(table, columns.episode_length, rows, findings)
    if columns.episode_jump:
        return _by_jump(table, rows, findings)
    if columns.episode_start:
        begins = _flag_of_rows(table, columns.episode_start, rows, findings)
        return _parted(table, np.flatnonzero(begins), rows, findings)
    ends = columns.episode_end or _flag_names(columns)
    names = [ends] if isinstance(ends, str) else ends
    # Flags with one entry per episode cannot delimit; a cut column is an error in `ends`.
    names = [name for name in names if len(table.values[name]) == rows or columns.episode_end]
    if not names:
        raise findings.error(
            "nothing says where episodes begin",
            "Give one of episode, episode_end, episode_start, split_indices, episode_length or "
            f"episode_jump in the column map. The source holds: {listed(table.held)}.",
        )
    ended = np.zeros(rows, bool)
    for name in names:
        flag = _flag_of_rows(table, name, rows, findings)
        ended |= ~flag if name == columns.continues else flag
    return _parted(table, np.flatnonzero(ended) + 1, rows, findings)


def ends(table: Table, episodes: Episodes, findings: Problems) -> tuple[Array, Array]:
    """Return the flags ``terminated`` and ``truncated``, ``[N]`` bool each.

    An episode whose last row has neither flag was cut by the end of the recording: truncated.

    Args:
        table: Columns of the source.
        episodes: Its episodes.
        findings: Where it came from.

    Returns:
        The two flags; set on last rows only, at least one of them on each.

    Raises:
        LogError: A flag is set while its episode goes on, or ``done`` does not say what it means.
    """
    columns = table.columns
    terminated = _flag(table, columns.terminated or columns.continues, episodes, findings)
    truncated = _flag(table, columns.truncated, episodes, findings)
    done = _flag(table, columns.done, episodes, findings)
    if done.any():
        natural = ~truncated
        if columns.done_means or not columns.truncated:
            natural = _done_is_terminal(columns, episodes, done, findings)
        terminated = terminated | (done & natural)
        truncated = truncated | (done & ~natural)
    return terminated, truncated | (episodes.last & ~terminated)


def _done_is_terminal(
    columns: ColumnMap, episodes: Episodes, done: Array, findings: Problems
) -> Array:
    """Return ``[N]`` bool: would ``done`` on this row mean a terminal state?"""
    if columns.done_means == "time_limit":
        limit = int(columns.time_limit or 0)
        over = np.flatnonzero(episodes.lengths > limit)
        if len(over):
            findings.report(
                f"the episode has {episodes.lengths[over[0]]} steps, time_limit is {limit}",
                "Correct time_limit.",
                columns.done,
                int(episodes.ends[over[0]]),
            )
        return (episodes.lengths < limit)[episodes.number]
    if columns.done_means is None:
        findings.report(
            f"done can mean that the task ended or that time ran out, and the log does not say"
            f"{_hint(episodes, done)}",
            "Set `done_means: terminated`, `done_means: truncated`, or `done_means: time_limit` "
            "with `time_limit: STEPS` in the column map.",
            columns.done,
            checks.first(done),
        )
    return np.full(len(done), columns.done_means == "terminated")


def _hint(episodes: Episodes, done: Array) -> str:
    lengths = episodes.lengths[done[episodes.ends]]
    longest = int(lengths.max()) if len(lengths) else 0
    share = int((lengths == longest).sum())
    if share < 2 or 2 * share < len(lengths):
        return ""
    return f" ({share} of {len(lengths)} stop after exactly {longest} steps: a time limit?)"


def _flag_names(columns: ColumnMap) -> list[str]:
    fields = columns.terminated, columns.continues, columns.truncated, columns.done
    return [name for name in fields if name]


def _flag_of_rows(table: Table, name: str, rows: int, findings: Problems) -> Array:
    checks.same_length(table.values[name], [rows], name, findings)
    return checks.as_flag(table.values[name], name, findings)


def _parted(table: Table, begun: Array, rows: int, findings: Problems) -> Episodes:
    """Return the episodes that begin at some rows, or where a file does."""
    parted = parting(table, begun, rows, findings)
    return Episodes.starting_at(np.r_[begun, parted], rows, len(parted))


def _flag(table: Table, name: str | None, episodes: Episodes, findings: Problems) -> Array:
    last = episodes.last
    if name is None:
        return np.zeros(len(last), bool)
    values = table.values[name]
    checks.same_length(values, [len(last), episodes.count], name, findings)
    flag: Array = checks.as_flag(values, name, findings) != (name == table.columns.continues)
    if len(flag) == len(last):
        checks.flags_at_ends(flag, last, name, findings)
        return flag & last
    spread = np.zeros(len(last), bool)
    spread[episodes.ends] = flag
    return spread


def _by_number(table: Table, name: str, rows: int, findings: Problems) -> Episodes:
    values = table.values[name]
    checks.same_length(values, [rows], name, findings)
    number = values if values.dtype.kind in "US" else checks.numeric(values, name, findings)
    number = checks.as_scalars(number, name, findings)
    if number.dtype.kind == "f":
        checks.finite(number, name, findings)
        checks.exact_numbers(number, name, findings)
    begun = np.flatnonzero(number[1:] != number[:-1]) + 1
    parted = parting(table, begun, rows, findings)
    starts = np.unique(np.r_[0, begun, parted])
    if table.parts:
        check_returns(number, starts, table, name, findings)
    else:
        checks.episodes_apart(number, name, findings)
    return Episodes.starting_at(starts, rows, len(parted))


def _by_splits(values: Array, name: str, rows: int, findings: Problems) -> Episodes:
    splits = checks.as_scalars(checks.numeric(values, name, findings), name, findings)
    row = checks.first(np.r_[False, splits[1:] <= splits[:-1]]) if len(splits) else None
    if row is not None:
        findings.report(
            f"episodes run backwards: split at {splits[row]} after {splits[row - 1]}",
            "Sort the split indices and remove repeated ones.",
            name,
            row,
        )
    outside = checks.first((splits < 0) | (splits > rows)) if len(splits) else None
    if outside is not None:
        raise findings.error(
            f"split at row {splits[outside]} of a log with {rows} rows",
            "The log is cut or the indices belong to another one.",
            name,
            outside,
        )
    return Episodes.starting_at(splits.astype(np.int64), rows)


def _by_length(table: Table, length: int, rows: int, findings: Problems) -> Episodes:
    if rows % length:
        raise findings.error(
            f"{rows} rows are no multiple of episode_length {length}",
            "Correct episode_length, or delimit episodes by a column.",
        )
    within = parting(table, np.arange(0, rows, length), rows, findings)
    if len(within):
        raise findings.error(
            f"the file begins within an episode of episode_length {length}, and nothing shows that "
            "the one of the file before goes on",
            "Correct episode_length, name a step column, or write one file.",
            row=int(within[0]),
        )
    return Episodes(np.full(rows // length, length, np.int64))


def _by_jump(table: Table, rows: int, findings: Problems) -> Episodes:
    stored = [part for part in observed_columns(table.columns) if part.after is not None]
    if not stored:
        raise findings.error(
            "episode_jump needs a stored next observation",
            "Name it with next_observation, or delimit episodes in another way.",
        )
    same = np.ones(rows - 1, bool)
    for part in stored:
        now, after = stored_rows(table, part.named), stored_rows(table, part.after)
        checks.same_length(now, [rows], str(part.named), findings)
        checks.same_length(after, [rows], str(part.after), findings)
        same &= Agreement(now, after)(now[1:], after[:-1]).all(axis=1)
    return Episodes.starting_at(np.flatnonzero(~same) + 1, rows)


def stored_rows(table: Table, names: Named | None) -> Array:
    """Return one column or several ``[N, D]`` as the source wrote them, joined."""
    parts = [table.values[name] for name in columns_in(names)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
