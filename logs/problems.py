"""What was found wrong with a log, and the words that say so.

Reading stops at the first problem; ``hindsight inspect`` collects them all.
"""

import difflib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError


@dataclass
class Problems:
    """Where a log came from, and what was found wrong with it.

    Args:
        path: File or folder that was read.
        collect: Collect problems in ``found`` instead of raising the first one.
        parts: First row and name of each file of a log of several files, in order.
        guessed: What to say of columns whose meaning was guessed, by column.
        guesses: Those columns by field.
        steps: Row of each step in the source, ``[N]``, where some rows are none.
        whole: Columns that have all rows of the source even so.
    """

    path: Path | str
    collect: bool = False
    parts: tuple[tuple[int, str], ...] = ()
    guessed: Mapping[str, str] = field(default_factory=dict)
    guesses: Mapping[str, list[str]] = field(default_factory=dict)
    steps: NDArray[np.int64] | None = None
    whole: frozenset[str] = frozenset()
    found: list[LogError] = field(default_factory=list)

    def error(
        self, problem: str, fix: str, column: str | None = None, row: int | None = None
    ) -> LogError:
        """Return the error, its row counted within the file it lies in."""
        path = self.path
        if row is not None and self.steps is not None and column not in self.whole:
            row = int(self.steps[row])
        if column is not None and column in self.guessed:
            fix = f"{fix} {self.guessed[column]}"
        if row is not None and self.parts:
            start, path = self.parts[bisect_right([part[0] for part in self.parts], row) - 1]
            row -= start
        return LogError(problem, fix, path=path, column=column, row=row)

    def report(
        self, problem: str, fix: str, column: str | None = None, row: int | None = None
    ) -> None:
        """Raise a problem, or keep it where problems are collected.

        Args:
            problem: What is wrong.
            fix: What to do about it.
            column: Column at fault.
            row: First row at fault, counted over all files.

        Raises:
            LogError: The problem, unless problems are collected.
        """
        error = self.error(problem, fix, column, row)
        if not self.collect:
            raise error
        self.found.append(error)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return "Did you mean ...? " with the known name closest to a name, or nothing."""
    # Comparing takes time that grows with the square of the length.
    short = [entry for entry in known[:1_000] if len(entry) <= 200]
    near = difflib.get_close_matches(name[:200], short, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}? " if near else ""


def listed(names: Sequence[str]) -> str:
    """Return the first 40 names in one line."""
    shown = ", ".join(_short(n) for n in names[:40])
    shown = shown or "nothing"
    return shown if len(names) <= 40 else f"{shown} and {len(names) - 40} more"


def missing_column(column: str, held: Sequence[str], path: Path | str) -> LogError:
    """Return the error for a column that a source does not hold."""
    fix = f"{nearest(column, held)}It holds: {listed(held)}."
    return LogError("no such column", fix, path=path, column=column)


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}..."
