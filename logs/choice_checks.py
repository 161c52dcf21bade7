"""Checks of numbers that stand for a choice: actions, and entries of an observation."""

import numpy as np

from hindsight_rl.logs.checks import MOST_CHOICES, Array, finite, first
from hindsight_rl.logs.problems import Problems


def choices(
    action: Array, count: int | None, column: str, findings: Problems, start: int = 0
) -> Array:
    """Return discrete actions as int64, in the numbers of the log.

    Args:
        action: ``[N]`` whole numbers of any dtype.
        count: Number of actions, or ``None`` if unknown.
        column: Its name in the source.
        findings: Where it came from.
        start: Number of the first action.

    Returns:
        ``[N]`` int64.

    Raises:
        LogError: A fractional action, or one below ``start`` or beyond ``count``.
    """
    # What an integer makes of NaN depends on the machine.
    whole = np.where(np.isfinite(action), action, start - 1).astype(np.int64)
    known = f"{count or MOST_CHOICES} actions" + (f" from {start}" if start else "")
    wrong = {
        "is no whole number": whole != action,
        f"is below {start}, the first action" if start else "is negative": whole < start,
        f"is none of the {known}": whole >= start + (count or MOST_CHOICES),
    }
    for problem, mask in wrong.items():
        row = first(mask)
        if row is not None:
            findings.report(
                f"action {action[row]} {problem}",
                "Number them from 0, or give action_start, the number of the first one; for "
                "continuous actions set `discrete_actions: false`.",
                column,
                row,
            )
    return whole


def observed_choices(values: Array, count: int | None, column: str, findings: Problems) -> Array:
    """Return an entry of the observation that is a number of a choice, as int64.

    Args:
        values: ``[N]`` or ``[N, ...]`` whole numbers of any dtype.
        count: Number of choices, or ``None`` if unknown.
        column: Its name in the source.
        findings: Where it came from.

    Returns:
        Of the same shape.

    Raises:
        LogError: A number is fractional, negative or beyond ``count``.
    """
    finite(values, column, findings)
    most = count or MOST_CHOICES
    whole = np.where(np.isfinite(values), values, -1).astype(np.int64)
    row = first((whole != values) | (whole < 0) | (whole >= most))
    if row is not None:
        findings.report(
            f"{values[row]} is none of {most} choices counted from 0",
            "Correct observation_choices, or leave the entry out of it to read real numbers.",
            column,
            row,
        )
    return whole
