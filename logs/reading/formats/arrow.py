"""Arrow columns (parquet, CSV) as numpy arrays: plain numbers, flags, text or lists of numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.table import unreadable


def read_parquet(path: Path, columns: list[str]) -> pa.Table:
    """Return some columns of one parquet file.

    Args:
        path: The file.
        columns: Names of columns that it holds.

    Returns:
        An Arrow table.

    Raises:
        LogError: The file cannot be read.
    """
    try:
        return pa.parquet.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "parquet", error) from error


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns of one parquet file.

    Args:
        path: The file.

    Returns:
        Names in the order of the file.

    Raises:
        LogError: The file cannot be read.
    """
    try:
        return list(pa.parquet.ParquetFile(path).schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "parquet", error) from error


def to_numpy(column: Any, name: str, path: Path | str) -> Array:
    """Return a column ``[N]`` or, if it holds lists of one length, ``[N, D]``.

    Args:
        column: A chunked array.
        name: Its name, for messages.
        path: Its source, for messages.

    Returns:
        A numpy array. Empty cells of real numbers are NaN, which the checks then report.

    Raises:
        LogError: An empty cell, lists of unequal length, or a type that holds no numbers.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros(0)  # a file without rows need not know its types
    if array.null_count and not pa.types.is_floating(array.type):
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise LogError("an empty cell", "Fill it in.", path=path, column=name, row=row)
    if _is_list(array.type):
        return _lists(array, name, path)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(array.to_pylist(), dtype=str)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    raise LogError(
        f"values of type {kind}", "Save the column as plain numbers.", path=path, column=name
    )


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _lists(array: Any, name: str, path: Path | str) -> Array:
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        width = int(lengths[0]) if len(lengths) else 0
        uneven = np.flatnonzero(lengths != width)
        if len(uneven):
            raise LogError(
                f"{lengths[uneven[0]]} entries where the rows before have {width}",
                "Make all rows the same length.",
                path=path,
                column=name,
                row=int(uneven[0]),
            )
    values = to_numpy(array.flatten(), name, path)
    return values.reshape(len(array), width, *values.shape[1:])
