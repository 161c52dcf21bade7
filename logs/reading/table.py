"""What a reader hands over: columns by the source's own names, before they are given a meaning."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import unreadable as unreadable
from hindsight_rl.logs.limits import number_order
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.column_map import ColumnMap


@dataclass(frozen=True)
class Table:
    """Columns of a source.

    Args:
        columns: The resolved column map: every column it names is in ``values``.
        values: ``[N, ...]`` arrays by the source's names. Observations may have one row more per
            episode than actions.
        facts: What the source itself says: ``names``, ``low``, ``high``, ``action_count``,
            ``control_rate_hz``, ``task_names``, ``environment``; each optional.
        parts: First row and name of each file, where there are several.
        held: Names of all columns of the source, read or not; for messages.
    """

    columns: ColumnMap
    values: dict[str, Array]
    facts: dict[str, Any] = field(default_factory=dict)
    parts: tuple[tuple[int, str], ...] = ()
    held: tuple[str, ...] = ()


Reader = Callable[[Path, ColumnMap], Table]


def check_columns(table: Table, findings: Problems) -> None:
    """Raise an error for columns without rows to speak of: single values, and rows of no entries.

    Args:
        table: What a reader hands over.
        findings: Where it came from.

    Raises:
        LogError: A column has no entry per row. As nothing is stored for them, rows of no entries
            may be more than any memory holds.
    """
    for name, values in table.values.items():
        if values.ndim == 0:
            raise findings.error("a single value, no column", "Give one entry per row.", name)
        if len(values) and not values.nbytes:
            raise findings.error(
                f"rows without entries (shape {list(values.shape)})", "Name another column.", name
            )


def parts_of(names: Sequence[str | Path], lengths: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Return first row and name of each file of a log of several files."""
    start, parts = 0, []
    for name, length in zip(names, lengths, strict=True):
        parts.append((start, str(name)))
        start += length
    return tuple(parts)


def natural(paths: Iterable[Path]) -> list[Path]:
    """Return paths sorted as people do: ``part-2`` before ``part-10``."""
    return sorted(paths, key=lambda path: number_order(str(path)))
