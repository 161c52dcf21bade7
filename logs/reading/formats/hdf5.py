"""D4RL-style HDF5: plain numeric datasets, one row per transition."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table, unreadable


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a file; a dataset in a group is named ``group/dataset``.

    Links to other files are not followed.

    Args:
        path: The file.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: Not HDF5, cut, a dataset that holds no plain numbers, or a column is missing.
    """
    try:
        with h5py.File(path, "r") as file:
            held: dict[str, Any] = {}
            file.visititems(lambda name, item: _collect(held, name, item))
            resolved = resolve(columns, list(held), path)
            values = {name: _array(held[name], name, path) for name in wanted(resolved)}
    except (OSError, RuntimeError, KeyError) as error:
        raise unreadable(path, "HDF5", error) from error
    return Table(resolved, values, held=tuple(held))


def _collect(held: dict[str, Any], name: str, item: Any) -> None:
    if isinstance(item, h5py.Dataset):
        held[name] = item


def _array(dataset: Any, name: str, path: Path) -> Array:
    if dataset.external or dataset.is_virtual:
        raise LogError(
            "its values lie in another file", "Copy them into this one.", path=path, column=name
        )
    if dataset.dtype.kind not in "biuf" or not dataset.shape:
        raise LogError(
            f"no plain numeric array ({dataset.dtype}, shape {list(dataset.shape or ())})",
            "Save it as an array of numbers with one row per transition.",
            path=path,
            column=name,
        )
    return np.asarray(dataset[()])
