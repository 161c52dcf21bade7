"""Episodes that all end "terminated" after the same number of steps: most likely a time limit."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.reading.column_map import ColumnMap


def warn_of_equal_ends(
    terminated: Array,
    lengths: Array,
    path: Path | str,
    columns: ColumnMap | None = None,
    guessed: Mapping[str, str] | None = None,
) -> None:
    """Warn where every episode is said to have terminated after the same number of steps, over 1.

    The last one may be cut before.

    Args:
        terminated: ``[E]`` bool, whether each episode terminated.
        lengths: ``[E]`` steps of each.
        path: The source.
        columns: Its column map, resolved, which names the flag.
        guessed: What to say of columns whose meaning was guessed, by column.
    """
    unfinished = len(lengths) > 1 and not terminated[-1] and lengths[-1] <= lengths[0]
    whole = len(lengths) - int(unfinished)
    same, steps = lengths[:whole], int(lengths[0])
    if whole < 2 or steps < 2 or not terminated[:whole].all() or (same != steps).any():
        return
    flag = columns and (columns.terminated or columns.continues or columns.done)
    guess = (guessed or {}).get(flag or "")
    by = f" by column '{flag}'" if flag else ""
    warnings.warn(
        f"{path}: all {whole} episodes terminate{by} after exactly {steps} steps, as they do where "
        "a time limit was taken for the end of the task: values of the last states are learned to "
        "be 0. If time ran out, say so in the column map (`terminated: null` with "
        f"`episode_end: {flag or 'COLUMN'}`, or `done_means: truncated`)"
        f"{f'. {guess}' if guess else ''}",
        stacklevel=2,
    )
