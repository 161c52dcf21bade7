"""Zarr stores, versions 2 and 3: folders and zip archives of arrays with one row per transition.

Replay buffers of diffusion policy keep the columns in ``data`` and the ends of the episodes in
``meta/episode_ends``; there columns are named as within ``data``. In other stores an array is named
``group/array``.
"""

import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hindsight_rl.entries import is_image
from hindsight_rl.logs.archives import DAMAGE
from hindsight_rl.logs.checks import Array, first
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import (
    JSON_BYTES,
    check_count,
    check_depth,
    check_memory,
    check_room,
    parse_json,
)
from hindsight_rl.logs.reading.column_map import DELIMITERS, LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.formats.zarr_arrays import EXTRA, ZarrArray, described
from hindsight_rl.logs.reading.formats.zarr_files import METADATA, FolderFiles, ZarrFiles, ZipFiles
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, resolve, wanted
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.rows import mapped

ENDS = "meta/episode_ends"
"""Array of a replay buffer: for each episode the row behind its last one."""

_DATA = "data/"
_BRIGHTEST = 255


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a store; frames of cameras in a nameless temporary file.

    Args:
        path: Folder, or zip archive.
        columns: Column map; a replay buffer without rewards gets zeros unless it says otherwise.

    Returns:
        The table.

    Raises:
        LogError: zarr is not installed, it is no store, a column is missing or holds no numbers, a
            chunk is missing or damaged, ends of episodes do not rise, a codec is not read, or
            arrays are larger, more or nested deeper than the limits.
    """
    try:
        import zarr  # noqa: F401 - said before anything is read
        import zstandard  # noqa: F401
    except ImportError as error:
        raise LogError("Zarr stores need zarr", f"{EXTRA}.", path=path) from error
    if path.is_dir():
        return _table(FolderFiles(path), columns)
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise unreadable(path, "a zip archive", error) from error
    with closing(archive):
        return _table(ZipFiles(path, archive), columns)


def _table(files: ZarrFiles, columns: ColumnMap) -> Table:
    found = dict(_arrays(files))
    buffer = ENDS in found and any(name.startswith(_DATA) for name in found)
    named = {name.removeprefix(_DATA) if buffer else name: name for name in found}
    given = columns
    if buffer:
        columns = _of_buffer(columns, list(named))
    resolved = resolve(columns, list(named), files.path)
    arrays = {name: described(files, named[name], found[named[name]]) for name in wanted(resolved)}
    cameras = {name for name in _alone(resolved) if _is_camera(arrays[name])}
    _check_sizes(arrays, cameras, files)
    fill = columns.missing_chunks == "fill"
    values = {
        name: _frames(array, fill) if name in cameras else _numbers(array, fill)
        for name, array in arrays.items()
    }
    for array in arrays.values():
        _warn_of_absent(array)
    if buffer and columns.split_indices != given.split_indices:
        _check_ends(values, columns_in(resolved.action)[0], files.path)
    return Table(resolved, values, held=tuple(named))


def _of_buffer(columns: ColumnMap, held: list[str]) -> ColumnMap:
    """Return the map of a replay buffer: where episodes end, and that there are no rewards."""
    borders = (getattr(columns, name) for name in DELIMITERS)
    if all(border in (None, False, LEFT_OUT) for border in borders):
        columns = replace(columns, split_indices=ENDS)
    if columns.reward == LEFT_OUT and not set(held) & set(COMMON_NAMES["reward"]):
        columns = replace(columns, reward=0.0)
    return columns


def _check_ends(values: Mapping[str, Array], action: str, path: Path) -> None:
    """Check that ends of episodes rise up to the last row.

    Args:
        values: Columns by name.
        action: One that has a row per step.
        path: The store, for messages.

    Raises:
        LogError: They do not.
    """
    ends, rows = values[ENDS], len(values[action])
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends):
        raise LogError(
            f"no row numbers ({ends.dtype}, shape {list(ends.shape)})",
            "Write for each episode the row behind its last one, as whole numbers.",
            path=path,
            column=ENDS,
        )
    before = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])
    wrong = first(ends <= before)
    if wrong is not None:
        raise LogError(
            f"an episode ends at row {ends[wrong]}, and begins at {before[wrong]}",
            "The buffer is damaged: ends of episodes must rise.",
            path=path,
            column=ENDS,
            row=wrong,
        )
    if ends[-1] != rows:
        what = f"the last episode ends at row {ends[-1]:,}, and there are {rows:,} rows"
        fix = "The store is cut: fetch it again."
        if ends[-1] < rows:
            fix = (
                "The rest was being written when the recorder stopped: cut the arrays, or write "
                f"`split_indices: {ENDS}` in the column map to read it as one more episode."
            )
        raise LogError(what, fix, path=path, column=ENDS)


def _alone(columns: ColumnMap) -> Iterator[str]:
    """Yield the columns that may be of a camera: images, and what is observed without others."""
    yield from columns_in(columns.image)
    for field in (columns.observation, columns.next_observation):
        parts = field.values() if isinstance(field, dict) else [field]
        yield from (name for part in parts if isinstance(part, str) for name in columns_in(part))


def _is_camera(array: ZarrArray) -> bool:
    return is_image(array.shape[1:], array.dtype.name)


def _check_sizes(arrays: Mapping[str, ZarrArray], cameras: set[str], files: ZarrFiles) -> None:
    """Check sizes before anything is unpacked; frames need room on the disk, not in memory."""
    held = {name: files.stored(array.name) for name, array in arrays.items()}
    numbers = [name for name in arrays if name not in cameras]
    needed = sum(max(arrays[name].nbytes, arrays[name].chunk_bytes) for name in numbers)
    check_memory(needed, sum(held[name] for name in numbers), files.path)
    frames = 0
    for name in cameras:
        array = arrays[name]
        check_memory(array.nbytes, held[name], files.path, name, in_file=True)
        check_memory(array.chunk_bytes, held[name], files.path, name)
        frames += math.prod(array.shape)
    check_room(frames, files.path)


def _numbers(array: ZarrArray, fill: bool) -> Array:
    values = np.empty(array.shape, array.dtype.newbyteorder("="))
    for rows, block in array.blocks(fill=fill):
        values[rows] = block
    return values


def _frames(array: ZarrArray, fill: bool) -> Array:
    """Return frames as bytes in a file, also of real numbers from 0 to 255 that are whole."""
    frames = mapped(array.shape, np.uint8) if array.nbytes else np.empty(array.shape, np.uint8)
    for rows, block in array.blocks(fill=fill):
        if block.dtype != np.uint8 and _no_bytes(block).any():
            check_memory(array.nbytes, array.files.stored(array.name), array.files.path, array.name)
            array.absent.clear()
            return _numbers(array, fill)
        frames[rows] = block
    return frames


def _no_bytes(block: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(~((block >= 0) & (block <= _BRIGHTEST) & (block == np.floor(block))))


def _warn_of_absent(array: ZarrArray) -> None:
    if array.absent:
        warnings.warn(
            f"{array.files.path}, column '{array.name}': {len(array.absent):,} chunks are not "
            f"there (the first is {array.absent[0]}) and are read as "
            f"{array.metadata.get('fill_value')!r:.20}",
            stacklevel=2,
        )


def _arrays(files: ZarrFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and metadata of each array, in the order of their names."""
    waiting, count = [""], 0
    while waiting:
        at = waiting.pop()
        check_depth(at.count("/"), files.path)
        key, metadata = _metadata(files, at)
        if key is None:
            if not at:
                raise LogError("no group of Zarr", "Name another folder.", path=files.path)
            continue
        if key == ".zarray" or metadata.get("node_type") == "array":
            if not at:
                raise LogError(
                    "a single array, no group of them",
                    "Give the folder of a group that holds an array for each column.",
                    path=files.path,
                )
            yield at, metadata
            continue
        names = files.below(at)
        count += len(names)
        check_count(count, "arrays and groups", files.path)
        waiting += [f"{at}/{name}" if at else name for name in reversed(names)]


def _metadata(files: ZarrFiles, at: str) -> tuple[str | None, Mapping[str, Any]]:
    """Return the name of the file that describes a folder, and what it says."""
    for name in METADATA[::-1]:
        key = f"{at}/{name}" if at else name
        size = files.size(key)
        if size is None:
            continue
        place = f"{files.path}, {key}"
        if size > JSON_BYTES:
            raise LogError(f"{size:,} bytes of text", "Write the store again.", path=place)
        try:
            said = parse_json(files.read(key).decode(), place)
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(place, "text", error) from error
        if not isinstance(said, Mapping):
            raise LogError("no JSON object", "Fetch the store again.", path=place)
        return name, said
    return None, {}
