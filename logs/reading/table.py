"""What a reader hands over: columns by the source's own names, before they are given a meaning."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
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


def unreadable(path: Path | str, what: str, error: Exception) -> LogError:
    """Return the error for a file that its own library cannot read."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return LogError(
        f"cannot be read as {what} ({reason})",
        "The file is cut, damaged or of another format: write or fetch it again.",
        path=path,
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
    return sorted(
        paths,
        key=lambda path: [
            (int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", str(path))
        ],
    )
