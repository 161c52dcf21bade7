"""Columns of pictures in parquet: PNG and JPEG in bytes, or in a struct with ``bytes``.

They are decoded a few at a time into a mapped file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_room
from hindsight_rl.logs.pictures import PictureError, Pixels, pixels_of, smaller
from hindsight_rl.logs.reading.cameras import kept_size
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats.arrow import parquet_schema
from hindsight_rl.logs.rows import mapped

_BATCH = 64  # rows whose bytes are held at a time


def picture_columns(path: Path) -> list[str]:
    """Return the names of the columns of a parquet file that may hold pictures.

    Args:
        path: The file.

    Returns:
        Names in the order of the file.

    Raises:
        LogError: The file cannot be read.
    """
    return [field.name for field in parquet_schema(path) if _holds_bytes(field.type)]


def read_pictures(
    files: Sequence[Path], name: str, columns: ColumnMap
) -> tuple[Pixels, NDArray[np.int64]]:
    """Return the pictures of a column, and the rows in which they are.

    Args:
        files: Parquet files in order.
        name: The column.
        columns: Column map; may say that smaller frames are kept.

    Returns:
        ``[M, H, W, C]`` uint8, mapped from a nameless temporary file; ``[M]``, M below the number
        of rows where cells are empty.

    Raises:
        LogError: A picture cannot be read, or is of another size than the first; the disk is full.
    """
    filled = [row for row, _, data in _cells(files, name) if data is not None]
    rows = np.array(filled, np.int64)
    frames: Any = None
    shape: tuple[int, ...] = ()
    size, number = (0, 0), 0
    for row, file, data in _cells(files, name):
        if data is None:
            continue
        pixels = _pixels(data, name, file, row)
        if frames is None:
            shape, size = pixels.shape, kept_size(columns, pixels.shape[:2], name)
            check_room(len(rows) * size[0] * size[1] * shape[2], file)
            frames = mapped((len(rows), *size, shape[2]), np.uint8)
        if pixels.shape != shape:
            raise LogError(
                f"a picture of {list(pixels.shape)} where the first is of {list(shape)}",
                "Read them apart, or leave it out.",
                path=file,
                column=name,
                row=row,
            )
        frames[number] = smaller(pixels, size)
        number += 1
    if frames is None:
        raise LogError("it holds no picture", "Leave it out.", path=files[0], column=name)
    return frames, rows


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _cells(files: Sequence[Path], name: str) -> Iterator[tuple[int, Path, Any]]:
    """Yield row, file and bytes of each cell of a column."""
    row = 0
    for file in files:
        try:
            for batch in pa.parquet.ParquetFile(file).iter_batches(_BATCH, columns=[name]):
                for cell in batch.column(0).to_pylist():
                    yield row, file, cell.get("bytes") if isinstance(cell, dict) else cell
                    row += 1
        except Exception as error:  # any way of being broken is the same to the caller
            raise unreadable(file, "parquet", error) from error


def _pixels(data: Any, name: str, file: Path, row: int) -> Pixels:
    try:
        if not isinstance(data, bytes):
            raise PictureError(f"it is {type(data).__name__}, and no bytes")
        return pixels_of(data)
    except PictureError as error:
        fix = "Write or fetch the file again."
        raise LogError(str(error), fix, path=file, column=name, row=row) from error
