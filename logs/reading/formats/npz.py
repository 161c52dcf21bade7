"""NumPy archives (.npz): one array per column, never unpickled."""

from pathlib import Path

from hindsight_rl.logs.archives import arrays, open_archive
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of an archive; only those that the map needs are loaded.

    Args:
        path: The file.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: Not an archive, cut, an array of objects, a column is missing or there twice, or
            arrays unpack to more than the limit.
    """
    with open_archive(path) as archive:
        resolved = resolve(columns, archive.files, path)
        values = arrays(archive, wanted(resolved), path)
        return Table(resolved, values, held=tuple(archive.files))
