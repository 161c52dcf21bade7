"""Sources whose last row of an episode is no step: it holds what the last action led to."""

from dataclasses import replace

import numpy as np

from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.episodes import Episodes, delimit
from hindsight_rl.logs.reading.table import Table

_WHOLE = ("observation", "achieved_goal", "image")
_FLAGS = ("terminated", "truncated", "done", "episode_end")


def observed_last(table: Table, findings: Problems) -> tuple[Table, Episodes]:
    """Return a table without the last row of each episode in all columns but observations.

    A flag of the last row is that of the step before it, which led there.

    Args:
        table: Columns of the source, ``[N + E, ...]``.
        findings: Where it came from; afterwards it counts rows as the source does.

    Returns:
        The table, observations ``[N + E, ...]`` and other columns ``[N, ...]``; its episodes.

    Raises:
        LogError: There is no delimiter, or an episode has one row.
    """
    columns = table.columns
    action = columns.action if isinstance(columns.action, str) else (columns.action or [""])[0]
    rows = len(table.values[action])
    episodes = delimit(table, rows, findings)
    short = np.flatnonzero(episodes.lengths < 2)
    if len(short):
        raise findings.error(
            "an episode of one row, which is no step by `last_row: observation`",
            "Leave last_row out if every row is a step, or correct where episodes begin.",
            row=int(episodes.ends[short[0]]),
        )
    whole = _names(table, _WHOLE)
    values = dict(table.values)
    for name in values.keys() - whole - {columns.split_indices}:
        if len(values[name]) == rows:
            kept = np.delete(values[name], episodes.ends, axis=0)
            at = episodes.ends - np.arange(1, episodes.count + 1)
            if name in _names(table, _FLAGS):
                kept[at] = np.maximum(kept[at], values[name][episodes.ends])
            if name == columns.continues:
                kept[at] = np.minimum(kept[at], values[name][episodes.ends])
            values[name] = kept
    findings.steps = np.delete(np.arange(rows), episodes.ends)
    findings.whole = frozenset(whole)
    return replace(table, values=values), Episodes(episodes.lengths - 1, episodes.parted)


def _names(table: Table, fields: tuple[str, ...]) -> set[str]:
    given = (getattr(table.columns, field) for field in fields)
    return {name for value in given for name in columns_in(value)}
