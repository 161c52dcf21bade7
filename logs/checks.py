"""Checks of what a log holds. Each names file, column, row and fix; none fixes by itself."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hindsight_rl.logs.precision import collapse, subtract
from hindsight_rl.logs.problems import Problems

Array = np.ndarray[Any, Any]

ROUNDING = 1e-6
"""Share of a bound by which an action may lie outside: float32 rounding after scaling."""

MOST_CHOICES = 1 << 16
"""Discrete actions at most, where the number is not given: more are likely real numbers."""


def first(mask: Array) -> int | None:
    """Return the first row ``[N, ...]`` in which anything is true, or ``None``."""
    rows = mask.reshape(len(mask), -1).any(axis=1)
    return int(rows.argmax()) if rows.any() else None


def numeric(values: Array, column: str, findings: Problems) -> Array:
    """Return a column unchanged if it holds numbers or flags.

    Args:
        values: ``[N, ...]`` of any dtype.
        column: Its name in the source.
        findings: Where it came from.

    Returns:
        ``values``.

    Raises:
        LogError: It holds objects, text, dates or complex numbers.
    """
    if values.dtype.kind in "biuf" and values.ndim > 0:
        return values
    if values.ndim == 0:
        raise findings.error("a single value, no column", "Give one entry per row.", column)
    if values.dtype.kind in "US":
        row = next((i for i, text in enumerate(values.flat) if not _is_number(text)), 0)
        # The entry is counted over all elements: a row may hold several.
        row = row * len(values) // max(values.size, 1)
        text = str(values[row])
        raise findings.error(
            f"text {text!r} where a number is needed",
            _fix_for(text),
            column,
            row,
        )
    what = {"O": "objects of mixed type", "c": "complex numbers", "M": "dates", "m": "durations"}
    raise findings.error(
        f"{what.get(values.dtype.kind, str(values.dtype))} where plain numbers are needed",
        "Save the column as one numeric array of equal rows.",
        column,
    )


def _fix_for(text: str) -> str:
    """Return what to do about text in the place of a number."""
    if re.fullmatch(r"[-+]?\d*,\d+", text.strip()):
        return "For decimal commas in a text file set `decimal_point: ','` in the column map."
    if text.strip().lower() in ("yes", "no", "y", "n"):
        return (
            "In a text file, name such words in the column map: `true_values: ['yes']` and "
            "`false_values: ['no']`."
        )
    return "Correct the entry or name another column."


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_float32(values: Array, column: str, findings: Problems, key: str | None = None) -> Array:
    """Return a column as float32 after looking for what it cannot hold.

    Args:
        values: ``[N, ...]`` numbers.
        column: Its name in the source.
        findings: Where it came from.
        key: What the column map calls it where an offset may be given.

    Returns:
        ``[N, ...]`` float32.

    Raises:
        LogError: NaN, infinity, numbers beyond float32, or ones it cannot distinguish.
    """
    single = finite(values, column, findings)
    lost = collapse(values)
    if lost is not None:
        entry = f"entry {lost.dimension}: " if values.size > len(values) else ""
        findings.report(f"{entry}{lost}", subtract(key), column)
    return single


def finite(values: Array, column: str, findings: Problems) -> Array:
    """Return a column as float32 after looking for NaN and infinity.

    Args:
        values: ``[N, ...]`` numbers.
        column: Its name in the source.
        findings: Where it came from.

    Returns:
        ``[N, ...]`` float32, which may have become equal where they were not.

    Raises:
        LogError: NaN, infinity, or a number beyond float32.
    """
    values = numeric(values, column, findings)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    row = first(~np.isfinite(single))
    if row is not None:
        entries = np.ravel(values[row])
        bad = entries[~np.isfinite(np.ravel(single[row]))][0]
        what = "NaN" if np.isnan(bad) else "infinity" if np.isinf(bad) else f"{bad:g}, too large"
        count = int((~np.isfinite(single)).sum())
        findings.report(
            f"{what} ({count} such {'entry' if count == 1 else 'entries'} in the column)",
            "Repair the value or leave its episode out.",
            column,
            row,
        )
    return single


def as_flag(values: Array, column: str, findings: Problems) -> Array:
    """Return a column of flags as bool.

    Args:
        values: ``[N]`` or ``[N, 1]`` bool, or numbers that are 0 or 1.
        column: Its name in the source.
        findings: Where it came from.

    Returns:
        ``[N]`` bool.

    Raises:
        LogError: Another shape, or a value other than 0 and 1.
    """
    values = as_scalars(numeric(values, column, findings), column, findings)
    row = first((values != 0) & (values != 1))
    if row is not None:
        findings.report(f"{values[row]} is no flag", "Write 0 or 1, or true or false.", column, row)
    return np.asarray(values == 1)


def as_scalars(values: Array, column: str, findings: Problems) -> Array:
    """Return a column of one entry per row as ``[N]``.

    Args:
        values: ``[N]`` or ``[N, 1]``.
        column: Its name in the source.
        findings: Where it came from.

    Returns:
        ``[N]``.

    Raises:
        LogError: The column has several entries per row.
    """
    if values.size != len(values):
        raise findings.error(
            f"{values.size // max(len(values), 1)} entries per row where one is needed",
            "Name another column.",
            column,
        )
    return values.reshape(len(values))


def same_length(values: Array, rows: Sequence[int], column: str, findings: Problems) -> None:
    """Check the number of rows of a column.

    Args:
        values: ``[N, ...]``.
        rows: Numbers of rows that are right, the first one that of the actions.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: Another number of rows.
    """
    if len(values) not in rows:
        also = "".join(f" (or {count})" for count in sorted(set(rows[1:]) - {rows[0]}))
        raise findings.error(
            f"{len(values)} rows where the actions have {rows[0]}{also}",
            "The log is cut or its columns do not belong together: make the lengths agree.",
            column,
        )


def episodes_apart(episode: Array, column: str, findings: Problems) -> None:
    """Check that an episode's rows are adjacent.

    Args:
        episode: ``[N]`` number of the episode of each row.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: An episode number comes back after another episode.
    """
    starts = np.flatnonzero(np.r_[True, episode[1:] != episode[:-1]])
    _, first_seen = np.unique(episode[starts], return_index=True)
    again = np.setdiff1d(np.arange(len(starts)), first_seen)
    if len(again):
        row = int(starts[again[0]])
        findings.report(
            f"episode {episode[row]} comes back after another one",
            "Sort the rows by episode and step.",
            column,
            row,
        )


def exact_numbers(episode: Array, column: str, findings: Problems) -> None:
    """Check that numbers of episodes are distinguished by their type.

    Whole numbers beyond 64 bits, and whole ones in a text column with a single real one, come as
    real numbers: from 2^53 on neighbours are the same, and episodes with them.

    Args:
        episode: ``[N]`` number of the episode of each row.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: A real number so large that its neighbour cannot be distinguished from it.
    """
    if episode.dtype.kind != "f":
        return
    exact = 2.0 ** (np.finfo(episode.dtype).nmant + 1)
    row = first(np.abs(episode) >= exact)
    if row is not None:
        raise findings.error(
            f"{episode[row]:.17g} is too large for {episode.dtype}: episodes that follow each "
            "other may have become one",
            "Renumber the episodes, write whole numbers only, or delimit them in another way.",
            column,
            row,
        )


def runs_forward(step: Array, lengths: Array, column: str, findings: Problems) -> None:
    """Check that a step number or time stamp grows within each episode.

    Args:
        step: ``[N]`` numbers. Whole numbers must grow, real ones may stand still (rounded stamps).
        lengths: ``[E]`` length of each episode.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: An episode runs backwards or repeats a step.
    """
    step = as_scalars(numeric(step, column, findings), column, findings)
    change = step[1:].astype(np.float64) - step[:-1].astype(np.float64)
    wrong = np.r_[False, change <= 0 if step.dtype.kind in "iu" else change < 0]
    wrong[np.cumsum(lengths)[:-1]] = False
    row = first(wrong)
    if row is not None:
        findings.report(
            f"the episode runs backwards: {step[row]} after {step[row - 1]}",
            "Sort the rows by episode and step, and remove repeated ones.",
            column,
            row,
        )


def flags_at_ends(flag: Array, last: Array, column: str, findings: Problems) -> None:
    """Check that a flag that ends an episode is set on last rows only.

    Args:
        flag: ``[N]`` bool.
        last: ``[N]`` bool, true on the last row of each episode.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: The flag is set while the episode goes on.
    """
    row = first(flag & ~last)
    if row is not None:
        findings.report(
            "the flag is set but the episode goes on",
            "Correct the episode column or the flag; or leave one of them out of the column map.",
            column,
            row,
        )


def within_bounds(
    action: Array, low: Array | None, high: Array | None, column: str, findings: Problems
) -> None:
    """Check actions against the bounds given.

    Args:
        action: ``[N, A]`` in environment units.
        low: ``[A]`` or ``None``.
        high: ``[A]`` or ``None``.
        column: Its name in the source.
        findings: Where it came from.

    Raises:
        LogError: An action lies outside.
    """
    outside = np.zeros(action.shape, bool)
    if low is not None:
        outside |= action < low - ROUNDING * (1 + np.abs(low))
    if high is not None:
        outside |= action > high + ROUNDING * (1 + np.abs(high))
    row = first(outside)
    if row is not None:
        entry = int(outside[row].argmax())
        bounds = (
            f"[{'-inf' if low is None else low[entry]}, {'inf' if high is None else high[entry]}]"
        )
        findings.report(
            f"action[{entry}] = {action[row, entry]:g} lies outside {bounds} "
            f"({100 * float(outside.mean()):.2g} % of all entries do)",
            "Set `clip: true`, or correct action_scale, action_low or action_high.",
            column,
            row,
        )
