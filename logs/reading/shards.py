"""Episodes of a log of several files: whether one goes on where the next file begins.

Recorders that run side by side each write a file of their own and each number their episodes from
0. So where a file begins an episode does, unless a step column shows that it goes on.
"""

from pathlib import Path

import numpy as np

from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.table import Table

_LONGEST_STEP = 1.5
"""Steps, as multiples of the usual one, that still go on."""


def first_rows(table: Table, rows: int) -> Array:
    """Return the first row of each file but the first, ``[F - 1]`` int64; empty files apart."""
    starts = np.unique(np.array([start for start, _ in table.parts], np.int64))
    return starts[(starts > 0) & (starts < rows)]


def parting(table: Table, begun: Array, rows: int, findings: Problems) -> Array:
    """Return the rows at which a file begins and nothing shows that an episode goes on.

    Args:
        table: Columns of the source.
        begun: Rows at which episodes begin by what the rows themselves say, ``[E]``.
        rows: N, number of actions.
        findings: Where it came from.

    Returns:
        Rows, in order, that none of ``begun`` are.
    """
    at = np.setdiff1d(first_rows(table, rows), begun)
    if not len(at):
        return at
    goes_on = _same_folder(table, at) | _next_step(table, at, begun, rows, findings)
    return np.asarray(at[~goes_on])


def check_returns(
    number: Array, starts: Array, table: Table, name: str, findings: Problems
) -> None:
    """Check that no episode number comes back within its own file.

    Args:
        number: ``[N]`` number of the episode of each row.
        starts: First row of each episode, ``[E]``.
        table: Columns of the source.
        name: The episode column.
        findings: Where it came from.

    Raises:
        LogError: A number comes back in its own file, or in another one with the steps that the
            first one left out.
    """
    files = np.r_[0, first_rows(table, len(number))]
    stops = np.r_[starts[1:], len(number)]
    file_of_first = np.searchsorted(files, starts, "right")
    file_of_last = np.searchsorted(files, stops - 1, "right")
    held: dict[object, int] = {}
    for now, value in enumerate(number[starts].tolist()):
        before = held.get(value)
        held[value] = now
        if before is None:
            continue
        runs = [slice(starts[i], stops[i]) for i in (before, now)]
        if file_of_last[before] == file_of_first[now]:
            problem = f"episode {value} comes back after another one"
        elif _one_episode(table, runs, len(number), findings):
            problem = f"episode {value} comes back, and its steps are those that were left out"
        else:
            continue
        findings.report(problem, "Sort the rows by episode and step.", name, int(starts[now]))
        return


def _same_folder(table: Table, at: Array) -> Array:
    """Return where the file before lies in the same folder, named by the episode (Hive)."""
    named = dict(table.parts)
    starts = sorted(named)
    key = f"{table.columns.episode}="
    same = []
    for row in at.tolist():
        folder, before = Path(named[row]).parent, Path(named[starts[starts.index(row) - 1]]).parent
        same.append(folder == before and any(part.startswith(key) for part in folder.parts))
    return np.array(same, bool)


def _steps(table: Table, rows: int, findings: Problems) -> Array | None:
    name = table.columns.step
    if not name:
        return None
    values = checks.numeric(table.values[name], name, findings)
    checks.same_length(values, [rows], name, findings)
    return checks.as_scalars(values, name, findings).astype(np.float64)


def _next_step(table: Table, at: Array, begun: Array, rows: int, findings: Problems) -> Array:
    """Return where the step column grows into the next file as it does within files."""
    step = _steps(table, rows, findings)
    if step is None:
        return np.zeros(len(at), bool)
    change = np.diff(step, prepend=step[:1])
    inside = np.ones(rows, bool)
    inside[np.r_[0, begun[begun < rows], at]] = False
    usual = change[inside & (change > 0)]
    longest = _LONGEST_STEP * (float(np.median(usual)) if len(usual) else 1.0)
    return np.asarray((change[at] > 0) & (change[at] <= longest))


def _one_episode(table: Table, runs: list[slice], rows: int, findings: Problems) -> bool:
    """Return whether two runs of rows have the steps of one episode, no two of them the same."""
    step = _steps(table, rows, findings)
    if step is None:
        return False
    first, second = (step[run] for run in runs)
    in_turn = first.max() < second.min() or second.max() < first.min()
    # Clocks of two recorders may run in between each other, numbers of steps may not.
    if len(np.intersect1d(first, second)) or not (in_turn or (step == np.floor(step)).all()):
        return False
    changes = np.diff(np.sort(np.concatenate([first, second])))
    return bool(changes.max() <= _LONGEST_STEP * np.median(changes))
