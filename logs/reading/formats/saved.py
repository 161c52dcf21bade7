"""Folders written by ``Log.save``."""

from pathlib import Path

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading.column_map import ColumnMap


def read(path: Path, columns: ColumnMap) -> Log:
    """Return a saved log, memory-mapped.

    Args:
        path: The folder.
        columns: Column map; a saved log needs none, so it must be empty.

    Returns:
        The log.

    Raises:
        LogError: Not a saved log, a damaged one, or a column map is given.
    """
    if columns.given().keys() - {"format"}:
        raise LogError(
            "a saved log has its columns already", "Read it without a column map.", path=path
        )
    return Log.load(path)
