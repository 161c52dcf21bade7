"""What an expert would have done in the rows of a log, where somebody said it."""

import numpy as np

from hindsight_rl.keys import EXPERT_ACTION, Key
from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.actions import Actions
from hindsight_rl.logs.reading.table import Table

_WHOLE = (
    "Give an action in the units of the log, or NaN for all of its numbers where there is none."
)


def expert_actions(table: Table, actions: Actions, findings: Problems) -> dict[Key, Array]:
    """Return the column ``expert_action`` of a table, if it has one.

    Args:
        table: Columns of the source.
        actions: Its actions, whose scale and bounds hold here too.
        findings: Where it came from.

    Returns:
        ``[N, A]`` float32 in environment units, or ``[N]`` float32 choices in the numbers of the
        log; NaN in rows without one.

    Raises:
        LogError: A column has another length or shape than actions, or a row is neither an action
            nor NaN.
    """
    named = table.columns.expert_action
    if not named:
        return {}
    names = named if isinstance(named, list) else [named]
    parts = []
    for name in names:
        part = checks.numeric(table.values[name], name, findings)
        checks.same_length(part, [len(actions.values)], name, findings)
        with np.errstate(over="ignore"):  # beyond float32: infinite, and reported as that
            parts.append(part.reshape(len(part), -1).astype(np.float32))
    values, label = np.concatenate(parts, axis=1), ", ".join(names)
    width = actions.values.shape[1] if actions.values.ndim > 1 else 1
    if values.shape[1] != width:
        raise findings.error(
            f"{values.shape[1]} numbers in a row where the actions have {width}",
            "Name the columns of the expert's action, in the order of those of the action.",
            names[0],
        )
    missing: Array = np.isnan(values)
    there: Array = np.logical_not(missing.all(axis=1))
    finite: Array = np.isfinite(values)
    row = checks.first(there & np.logical_not(finite.all(axis=1)))
    if row is not None:
        findings.report(f"{values[row].tolist()} is no action", _WHOLE, label, row)
    if actions.values.ndim == 1:
        return {EXPERT_ACTION: _choices(values[:, 0], there, actions, label, findings)}
    values = values * actions.scale + actions.offset
    if table.columns.clip:
        values = np.clip(values, actions.low, actions.high)
    known = np.where(there[:, None], values, actions.values)
    checks.within_bounds(known, actions.low, actions.high, label, findings)
    return {EXPERT_ACTION: values.astype(np.float32)}


def _choices(
    values: Array, there: Array, actions: Actions, column: str, findings: Problems
) -> Array:
    """Return choices ``[N]`` float32 that are among those of the log."""
    start = actions.info.get("action_start", 0)
    stop = start + actions.info["discrete_actions"]
    with np.errstate(invalid="ignore"):
        wrong = there & ((values != np.rint(values)) | (values < start) | (values >= stop))
    row = checks.first(wrong)
    if row is not None:
        findings.report(
            f"{values[row]:g} is none of the choices {start} to {stop - 1}",
            "Number them as the actions are; give action_count where the log does not show all.",
            column,
            row,
        )
    return values
