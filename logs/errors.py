"""The one error of this folder: bad input, said so that its owner can fix it."""

from collections.abc import Iterable
from pathlib import Path

from hindsight_rl.keys import Key, key_name


class LogError(ValueError):
    """A log that cannot be read as it stands.

    The message names the file, the column and the row where they are known, and ends with the fix.
    The command prints it without a traceback and exits with code 2.

    Args:
        problem: What is wrong, one clause.
        fix: What to do about it, one sentence.
        path: File or folder at fault.
        column: Column at fault, as the file names it.
        row: First row at fault, counted from 0.
    """

    def __init__(
        self,
        problem: str,
        fix: str,
        *,
        path: str | Path | None = None,
        column: str | None = None,
        row: int | None = None,
    ) -> None:
        places = [str(path)] if path is not None else []
        places += [f"column '{column}'"] if column is not None else []
        places += [f"row {row}"] if row is not None else []
        where = ", ".join(places)
        super().__init__(f"{where}: {problem}. {fix}" if where else f"{problem}. {fix}")
        self.problem, self.fix = problem, fix
        self.path, self.column, self.row = path, column, row


def unreadable(path: Path | str, what: str, error: BaseException) -> LogError:
    """Return the error for a file that its own library cannot read."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return LogError(
        f"cannot be read as {what} ({reason})",
        "The file is cut, damaged or of another format: write or fetch it again.",
        path=path,
    )


def missing_key(key: Key, held: Iterable[Key], name: str) -> LogError:
    """Return the error for a key that a log does not have.

    Args:
        key: Of a column.
        held: Keys of the log.
        name: Of the log.

    Returns:
        The error, which lists them.
    """
    fix = "It holds: " + ", ".join(sorted(key_name(k) for k in held)) + "."
    if "achieved_goal" in key:
        fix += " Name what each row reached in the column map: 'achieved_goal: COLUMN'."
    return LogError(f"the log has no '{key_name(key)}'", fix, path=name)
