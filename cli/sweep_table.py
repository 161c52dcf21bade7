"""The table of a sweep: a line for each setting, best first."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from hindsight_rl.cli.sweep_values import Setting, as_text
from hindsight_rl.intervals import student_interval


class Row(NamedTuple):
    """What a setting reached over its seeds."""

    setting: Setting
    """Options by name."""
    mean: float
    """Mean over seeds."""
    low: float
    """Lower end of Student's 95 % interval; the mean where there is one seed."""
    high: float
    """Upper end."""
    seeds: int
    """How many seeds."""
    seconds: float
    """Mean time of a run."""


def numbers(result: Mapping[str, Any], by: str) -> list[float]:
    """Return what a run is ranked by.

    Args:
        result: Of :func:`hindsight_rl.cli.sweep_runs.execute`.
        by: Name of a number in the report of ``test``, or else of ``fit``.

    Returns:
        The number; several for a run of several seeds (``--model.seeds``).

    Raises:
        ValueError: No report has such a number.
    """
    test, fit = result.get("test", {}), result["fit"]
    reports = test.get("seeds") or [test] if by in test else [fit]
    found = [report.get(by) for report in reports]
    if not all(isinstance(value, int | float) for value in found):
        there = sorted(
            name
            for name, value in {**fit, **test}.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        why = "" if test else " (no --env, so nothing was tested)"
        raise ValueError(f"--by {by}: no such number in a run{why}; there are {', '.join(there)}")
    return [float(value) for value in found if value is not None]


def rows(results: Iterable[Mapping[str, Any]], by: str, *, least: bool = False) -> list[Row]:
    """Return one row for each setting, best first.

    Args:
        results: Of finished runs.
        by: The number that ranks.
        least: Whether the smallest is best.

    Returns:
        Rows; settings of equal means stay in their order, those without a number (NaN) are last.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(json.dumps(result["setting"], sort_keys=True), []).append(result)
    found = [_row(group, by) for group in groups.values()]
    sign = 1.0 if least else -1.0
    return sorted(found, key=lambda row: (math.isnan(row.mean), sign * row.mean))


def markdown(found: Sequence[Row], by: str) -> str:
    """Return the table as Markdown.

    Args:
        found: Rows, in order.
        by: The number that ranked them.

    Returns:
        Lines without a final newline, columns aligned.
    """
    names = list(dict.fromkeys(name for row in found for name in row.setting))
    cells = [[*names, f"{by} [95 %]", "seeds", "seconds"]]
    for row in found:
        ends = f" [{_short(row.low)}, {_short(row.high)}]" if row.seeds > 1 else ""
        cells.append(
            [as_text(row.setting.get(name, "")) for name in names]
            + [f"{_short(row.mean)}{ends}", str(row.seeds), f"{row.seconds:.0f}"]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    padded = ([c.ljust(width) for c, width in zip(row, widths, strict=True)] for row in cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _row(group: Sequence[Mapping[str, Any]], by: str) -> Row:
    values = [value for result in group for value in numbers(result, by)]
    mean = fmean(values)
    low, high = student_interval(values) if len(values) > 1 else (mean, mean)
    seconds = fmean(result["seconds"] for result in group)
    return Row(group[0]["setting"], mean, low, high, len(values), seconds)


def _short(value: float) -> str:
    return f"{value:.4g}"
