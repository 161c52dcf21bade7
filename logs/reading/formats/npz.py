"""NumPy archives (.npz): one array per column, never unpickled."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table, unreadable

_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of an archive; only those that the map needs are loaded.

    Args:
        path: The file.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: Not an archive, cut, an array of objects, or a column is missing.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise unreadable(path, "an npz archive", error) from error
    if isinstance(archive, np.ndarray):
        raise LogError(
            "a single array, no archive", "Save named arrays with numpy.savez.", path=path
        )
    with archive:
        resolved = resolve(columns, archive.files, path)
        values = {name: _array(archive, name, path) for name in wanted(resolved)}
        return Table(resolved, values, held=tuple(archive.files))


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        return np.asarray(archive[name])
    except _DAMAGE as error:
        if "Object arrays cannot be loaded" in str(error):
            raise LogError(
                "an array of Python objects, which would have to be unpickled",
                "Save it as a plain array: numpy.stack it, or leave the column out.",
                path=path,
                column=name,
            ) from error
        raise unreadable(f"{path}, column '{name}'", "an npz array", error) from error
