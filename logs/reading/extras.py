"""What a log may say beyond transitions: success, log-probabilities of actions, further numbers."""

from collections.abc import Collection

import numpy as np

from hindsight_rl.keys import ACTION_LOG_PROB, CONTEXT, Key
from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.actions import Actions
from hindsight_rl.logs.reading.column_map import Named
from hindsight_rl.logs.reading.episodes import Episodes
from hindsight_rl.logs.reading.table import Table

SUCCESS: Key = "success"

ROUNDING = 1e-5
"""Nats by which the log-probability of a discrete action may lie above 0."""


def extras(
    table: Table, actions: Actions, episodes: Episodes, taken: Collection[Key], findings: Problems
) -> dict[Key, Array]:
    """Return the columns that a map asks for beside the transitions.

    Args:
        table: Columns of the source.
        actions: Its actions.
        episodes: Its episodes.
        taken: Keys that no further column can have.
        findings: Where it came from.

    Returns:
        ``success`` ``[N]`` bool, ``context`` ``[N, C]`` float32, ``action_log_prob`` and further
        numbers ``[N]`` float32.

    Raises:
        LogError: A column has a wrong length or shape, holds NaN, infinity or text, is no flag or
            no log-probability, or would be called as another one is.
    """
    given, found = table.columns, dict[Key, Array]()
    if given.success:
        values = _per_row(table, given.success, episodes, findings)
        found[SUCCESS] = checks.as_flag(values, given.success, findings)
    if given.action_log_prob:
        found[ACTION_LOG_PROB] = _log_prob(table, given.action_log_prob, actions, findings)
    if given.context:
        found[CONTEXT] = _context(table, given.context, episodes, findings)
    named = given.extra or []
    for name in [named] if isinstance(named, str) else named:
        key = name.replace(".", "/").rpartition("/")[2]
        if key in found or key in taken:
            raise findings.error(
                f"it would be called '{key}', as another column is", "Rename the column.", name
            )
        values = checks.as_float32(_per_row(table, name, episodes, findings), name, findings)
        found[key] = checks.as_scalars(values, name, findings)
    return found


def _context(table: Table, named: Named, episodes: Episodes, findings: Problems) -> Array:
    """Return the columns of a context, joined ``[N, C]``."""
    parts = []
    for name in [named] if isinstance(named, str) else named:
        values = checks.as_float32(_per_row(table, name, episodes, findings), name, findings)
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts, axis=1)


def _per_row(table: Table, name: str, episodes: Episodes, findings: Problems) -> Array:
    """Return a column ``[N, ...]``; what is said of an episode holds for all of its rows."""
    values, rows = checks.numeric(table.values[name], name, findings), len(episodes.number)
    checks.same_length(values, [rows, episodes.count], name, findings)
    return values if len(values) == rows else values[episodes.number]


def _log_prob(table: Table, name: str, actions: Actions, findings: Problems) -> Array:
    """Return log-probabilities ``[N]`` of actions in environment units, nats."""
    values = checks.numeric(table.values[name], name, findings)
    checks.same_length(values, [len(actions.values)], name, findings)
    values = checks.as_scalars(checks.as_float32(values, name, findings), name, findings)
    row = checks.first(values > ROUNDING) if actions.values.ndim == 1 else None
    if row is not None:
        findings.report(
            f"{values[row]:g} is above 0, and so no log-probability of a discrete action",
            "Store the natural logarithm of the probability.",
            name,
            row,
        )
    if np.isinf(actions.log_scale):
        raise findings.error(
            "action_scale has a 0: scaled actions have no density",
            "Correct action_scale, or leave action_log_prob out.",
            name,
        )
    return values - np.float32(actions.log_scale)
