"""Zarr stores written by zarr's own writer.

Imported as ``zarr_stores`` (``tests`` is on pytest's path).
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LENGTHS = (4, 1, 3)
ENDS = np.cumsum(LENGTHS)
ROWS = int(ENDS[-1])


def columns() -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a small replay buffer; no two numbers of one are alike."""
    rows = np.arange(ROWS)
    state = np.stack([rows + 0.5, 100.0 - rows], 1).astype(np.float32)
    pixels = np.arange(ROWS * 8 * 9 * 3) * 37 % 251
    return {
        "data/state": state,
        "data/action": (np.stack([rows, -rows, rows * rows], 1) + 1) / 1000.0,
        "data/img": pixels.reshape(ROWS, 8, 9, 3).astype(np.uint8),
        "data/n_contacts": rows[:, None] + 1.0,
        "meta/episode_ends": ENDS.astype(np.int64),
    }


def write(
    path: Path,
    values: Mapping[str, npt.NDArray[Any]] | None = None,
    version: int = 2,
    chunks: int = 3,
    **settings: Any,
) -> Path:
    """Write a store of arrays.

    Args:
        path: Folder of the store.
        values: Columns; left out, those of the small replay buffer.
        version: Of the format.
        chunks: Rows of a chunk.
        **settings: Of ``zarr``'s ``create_array``, for all arrays.

    Returns:
        The folder.
    """
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, value in (columns() if values is None else values).items():
        size = {"chunks": (chunks, *value.shape[1:])} if value.ndim else {}
        array = group.create_array(name, shape=value.shape, dtype=value.dtype, **(size | settings))
        array[...] = value
    return path


def zipped(folder: Path, path: Path, home: str = "") -> Path:
    """Write the files of a folder into an archive, below a folder of it where one is named."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{home}{file.relative_to(folder)}")
    return path
