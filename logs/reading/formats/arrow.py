"""Arrow columns (parquet, CSV) as numpy arrays: plain numbers, flags, text or lists of numbers."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count, check_memory, regular_file


def read_parquet(path: Path, columns: list[str]) -> pa.Table:
    """Return some columns of one parquet file.

    Args:
        path: The file.
        columns: Names of columns that it holds.

    Returns:
        An Arrow table.

    Raises:
        LogError: The file cannot be read, or a column is there twice.
    """
    try:
        schema = pa.parquet.ParquetFile(path).schema_arrow
        count = Counter(schema.names)
        twice = next((name for name in columns if count[name] > 1), None)
        if twice is not None:
            raise LogError("two columns of this name", "Rename one.", path=path, column=twice)
        # A text that is there a million times is a few bytes in a file, and stays so.
        texts = [name for name in columns if _is_text(schema.field(name).type)]
        return pa.parquet.ParquetFile(path, read_dictionary=texts).read(columns=columns)
    except LogError:
        raise
    except Exception as error:  # any way of being broken is the same to the caller
        raise unreadable(path, "parquet", error) from error


def check_sizes(
    files: Sequence[Path], columns: Collection[str], source: Path, *, row_bytes: int = 0
) -> None:
    """Raise an error for parquet files that unpack to more than what they hold can mean.

    A constant column of any number of rows is a few bytes in a file.

    Args:
        files: Files that are read together.
        columns: Names of the columns that are read.
        source: Folder or file that they are, for messages.
        row_bytes: Bytes of a row beside its values: of rows that become objects.

    Raises:
        LogError: A file cannot be read, or they are together above the limit.
    """
    needed = held = 0
    for path in files:
        try:
            about = pa.parquet.ParquetFile(path).metadata
            check_count(about.num_columns, "columns", path)
            packed, needed = 0, needed + row_bytes * about.num_rows
            for group in map(about.row_group, range(about.num_row_groups)):
                chunks = map(group.column, range(group.num_columns))
                read = [c for c in chunks if c.path_in_schema.split(".")[0] in columns]
                needed += sum(c.num_values * _WIDTHS.get(c.physical_type, 16) for c in read)
                packed += sum(max(0, c.total_compressed_size) for c in read)
            held += min(packed, path.stat().st_size)
        except LogError:
            raise
        except Exception as error:
            raise unreadable(path, "parquet", error) from error
    check_memory(needed, held, source)


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns of one parquet file.

    Args:
        path: The file.

    Returns:
        Names in the order of the file.

    Raises:
        LogError: The file cannot be read.
    """
    return list(parquet_schema(path).names)


def parquet_schema(path: Path) -> pa.Schema:
    """Return the names and types of the columns of one parquet file.

    Args:
        path: The file.

    Returns:
        The schema.

    Raises:
        LogError: The file cannot be read.
    """
    try:
        return pa.parquet.ParquetFile(regular_file(path)).schema_arrow
    except LogError:
        raise
    except Exception as error:  # text of a damaged file need not even be UTF-8
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
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        texts = to_numpy(array.dictionary, name, path)
        check_memory(texts.itemsize * len(array), array.nbytes, path, name)
        return np.asarray(texts[array.indices.to_numpy(zero_copy_only=False)])
    if _is_text(kind):
        # NumPy keeps every text as wide as the widest, four bytes a letter.
        widest = int(pa.compute.max(pa.compute.utf8_length(array)).as_py() or 0)
        check_memory(4 * widest * len(array), array.nbytes, path, name)
        return np.asarray(array.to_pylist(), dtype=str)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    raise LogError(
        f"values of type {kind}", "Save the column as plain numbers.", path=path, column=name
    )


# Bytes of a value in memory by its type in the file.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


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
