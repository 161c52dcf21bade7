"""What lies in the folder of a saved log, and what is an error when it is read back."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    EPISODE_END,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
    key_of,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.facts import check_info
from hindsight_rl.logs.frames import next_key
from hindsight_rl.logs.limits import read_json, regular_file
from hindsight_rl.logs.packed import DTYPES, Column, PackedColumns, observed, rows_together
from hindsight_rl.logs.rows import StackedRows

FORMAT = "hindsight-log"
VERSION = 1
IMAGES_VERSION = 2  # releases that know no images must not read such a log without them
HEADER = "header.json"
MATRIX = "matrix.bin"
ROWS = "rows.bin"

_MOST = 2**62  # of anything that is counted: what is larger fits no file
_NUMBER, _COUNT, _FLAG = ("float32", "int64"), ("int64",), ("bool", "int64")
_NEEDED: dict[Key, tuple[str, ...]] = {
    ACTION: _NUMBER,
    REWARD: _NUMBER,
    TERMINATED: _FLAG,
    TRUNCATED: _FLAG,
    EPISODE: _COUNT,
    STEP: _COUNT,
    EPISODE_END: _COUNT,
}
_SCALARS = (REWARD, TERMINATED, TRUNCATED, EPISODE, STEP, EPISODE_END)


@dataclass(frozen=True)
class Source:
    """Rows ``[start, stop)`` of a log that came from one source, and how often they are drawn."""

    start: int
    stop: int
    weight: float
    name: str


def frames_file(number: int) -> str:
    """Return the name of the file of an image column, by its place in the header."""
    return f"frames{number}.bin"


class Header(NamedTuple):
    """What the JSON header of a saved log says; images by the shape of all their frames."""

    rows: int
    drawable: int | None
    columns: dict[Key, Column]
    sources: tuple[Source, ...]
    info: dict[str, Any]
    hash: tuple[str, str] | None
    images: dict[Key, tuple[int, ...]]


def make_header(
    block: PackedColumns,
    rows: Tensor | None,
    hashes: Sequence[str],
    sources: Sequence[Sequence[Any]],
    info: Mapping[str, Any],
    images: Mapping[Key, Tensor | StackedRows],
) -> dict[str, Any]:
    """Return the header of a log.

    Args:
        block: All its columns.
        rows: Drawable rows, ``None`` for all.
        hashes: Of the bytes that are written, and of the log.
        sources: First row, last row and one, weight and name of each source.
        info: Facts of the log.
        images: Frames by key.

    Returns:
        What JSON can hold.
    """
    header = {
        "format": FORMAT,
        "version": IMAGES_VERSION if images else VERSION,
        "rows": len(block.matrix),
        "drawable": None if rows is None else len(rows),
        "columns": {key_name(k): list(c) for k, c in block.columns.items()},
        "hash": list(hashes),
        "sources": [list(source) for source in sources],
        "info": {k: v for k, v in info.items() if k != "memory_mapped"},
    }
    shapes = {"images": {key_name(k): list(i.shape) for k, i in images.items()}}
    return header | (shapes if images else {})


def check_size(file: Path, size: int, *, longer: bool = False) -> None:
    """Raise an error for a file of another size.

    Args:
        file: File in the folder of a log.
        size: Bytes it must have.
        longer: Whether it may have more: rows of an append that did not end.

    Raises:
        LogError: It is missing, cut or longer.
    """
    if file.exists():
        regular_file(file)
    found = file.stat().st_size if file.exists() else 0
    if found < size or (found > size and not longer) or not file.exists():
        raise LogError(
            f"{file.name} has {found} bytes where the header promises {size}",
            "The log is cut: write it again.",
            path=file.parent,
        )


def read_file(
    file: Path, dtype: Any, shape: Sequence[int], memory_map: bool, *, longer: bool = False
) -> Tensor:
    """Return what a file of a saved log holds.

    Args:
        file: The file.
        dtype: NumPy's.
        shape: Of what it holds.
        memory_map: Leave it on disk, and read what is asked for.
        longer: Whether it may have more: rows of an append that did not end.

    Returns:
        A tensor.

    Raises:
        LogError: The file is missing, cut or longer.
    """
    count = math.prod(shape)
    check_size(file, count * np.dtype(dtype).itemsize, longer=longer)
    if not memory_map or not count:
        return torch.from_numpy(np.fromfile(file, dtype, count).reshape(shape))
    # Shared and copy-on-write: torch wants a writable buffer, nothing here writes to it.
    return torch.from_numpy(np.memmap(file, dtype, mode="c", shape=tuple(shape)))


def write_rows(file: Path, matrix: Tensor | StackedRows) -> None:
    """Write rows at the end of a file (made where absent), a few megabytes at a time.

    Args:
        file: Where to write.
        matrix: ``[N, W]`` 32-bit words, or frames.
    """
    with file.open("ab") as out:
        for words in matrix.split(rows_together(matrix)):
            out.write(words.contiguous().numpy().data)
        out.flush()
        os.fsync(out.fileno())


def read_header(folder: Path) -> Header:
    """Return the header of a saved log.

    Args:
        folder: Folder of the log.

    Returns:
        What it says.

    Raises:
        LogError: There is none, it is of another version, or it is damaged.
    """
    try:
        header = read_json(folder / HEADER)
    except LogError as error:
        raise LogError(
            f"no readable {HEADER}", "Give a folder written by Log.save.", path=folder
        ) from error
    known = isinstance(header, dict) and header.get("format") == FORMAT
    version = IMAGES_VERSION if known and "images" in header else VERSION
    if not known or header.get("version") != version:
        raise LogError(
            f"not a {FORMAT} of version {VERSION} or {IMAGES_VERSION}",
            "Write it with this release.",
            path=folder,
        )
    try:
        rows, drawable = _read_count(header["rows"], "rows", 1), header["drawable"]
        check_info(header["info"])
        return Header(
            rows=rows,
            drawable=None if drawable is None else _read_count(drawable, "drawable rows"),
            columns=_read_columns(header["columns"]),
            sources=tuple(map(_read_source, header["sources"])),
            info=dict(header["info"]),
            hash=_read_hash(header.get("hash")),
            images={key_of(k): _read_shape(s) for k, s in header.get("images", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(
            f"{HEADER} is damaged ({str(error)[:200]})", "Write the log again.", path=folder
        ) from error


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _read_count(value: Any, name: str, least: int = 0) -> int:
    if not _is_count(value) or value < least:
        what = "" if isinstance(value, (int, str)) else f", a {type(value).__name__}"
        raise ValueError(f"{str(value)[:50]} {name}{what}")
    return int(value)


def _read_source(entry: Any) -> Source:
    source = Source(*entry)
    if not isinstance(source.weight, (int, float)) or not isinstance(source.name, str):
        raise ValueError(f"source {entry!r}")
    if not _is_count(source.start) or not _is_count(source.stop):
        raise ValueError(f"source {entry!r}")
    return source


def _read_hash(entry: Any) -> tuple[str, str] | None:
    if entry is None:  # logs written before hashes were kept
        return None
    written, identity = entry
    if not isinstance(written, str) or not isinstance(identity, str):
        raise ValueError("'hash' is not two strings")
    return written, identity


def _read_shape(entry: Any) -> tuple[int, ...]:
    shape = tuple(entry)
    if not shape or not all(map(_is_count, shape)):
        raise ValueError(f"shape {entry!r} of images")
    return shape


def _read_columns(entries: Mapping[str, Sequence[Any]]) -> dict[Key, Column]:
    columns: dict[Key, Column] = {}
    next_start = 0
    for name, (start, shape, dtype) in entries.items():
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r} of column '{name}'")
        if start != next_start or not all(map(_is_count, (start, *shape))):
            raise ValueError(f"column '{name}' does not follow the one before it")
        columns[key_of(name)] = Column(start, tuple(shape), dtype)
        next_start += columns[key_of(name)].width
    return columns


def _filmed(header: Header) -> list[Key]:
    """Return the keys of images, and of the next ones where frames are those of whole episodes."""
    whole = [key for key, shape in header.images.items() if shape[0] > header.rows]
    return [*header.images, *map(next_key, whole)]


def _observed(header: Header, folder: Path) -> list[Key]:
    """Return the keys of what is observed, now and next."""
    seen = observed([*header.columns, *header.images])
    stated = header.info.get("entries")
    given = [] if seen == [OBSERVATION] else [key[1] for key in seen]
    # Columns and images lie apart, so the header says in which order the entries come.
    if not isinstance(stated, (list, type(None))) or sorted(map(str, stated or ())) != sorted(
        given
    ):
        problem = f"{HEADER} is damaged (its entries are {given}, and it says {stated})"
        raise LogError(problem, "Write the log again.", path=folder)
    return [*seen, *map(next_key, seen)]


def check_columns(header: Header, folder: Path) -> None:
    """Raise an error for a header whose columns or sources are not those of a log.

    Args:
        header: The header.
        folder: Where it lies, for messages.

    Raises:
        LogError: A needed column is missing or of another kind, or sources leave rows out.
    """
    fix, filmed = "Write the log again.", _filmed(header)
    for key in filmed:
        if key in header.columns or filmed.count(key) > 1:
            problem = f"{HEADER} is damaged (images are called as another column is)"
            raise LogError(problem, fix, path=folder, column=key_name(key))
    looked_at = dict.fromkeys(_observed(header, folder), _NUMBER)
    for key, kinds in (looked_at | _NEEDED).items():
        column = header.columns.get(key)
        if key in looked_at and key in filmed:
            continue
        if column is None or column.dtype not in kinds:
            found = "missing" if column is None else column.dtype
            problem = f"{HEADER} is damaged (column is {found}, a log needs {' or '.join(kinds)})"
            raise LogError(problem, fix, path=folder, column=key_name(key))
        if key in _SCALARS and column.shape != ():
            problem = f"{HEADER} is damaged (one number per row is needed, not {column.shape})"
            raise LogError(problem, fix, path=folder, column=key_name(key))
    start = 0
    for source in header.sources:
        if source.start != start or source.stop < start or not 0 < source.weight < math.inf:
            raise LogError(f"{HEADER} is damaged (source {source})", fix, path=folder)
        start = source.stop
    if start != header.rows:
        problem = f"{HEADER} is damaged (sources end at row {start} of {header.rows})"
        raise LogError(problem, fix, path=folder)


def check_frames(
    images: Mapping[Key, tuple[int, ...]], rows: int, episodes: int, folder: Path
) -> None:
    """Raise an error for a header whose images do not go with its rows.

    Args:
        images: Shape of all frames of each image column.
        rows: N.
        episodes: E.
        folder: Where it lies, for messages.

    Raises:
        LogError: There are neither N nor N + E frames.
    """
    for key, shape in images.items():
        if shape[0] not in (rows, rows + episodes):
            problem = (
                f"{HEADER} is damaged ({shape[0]} frames for {rows} rows in {episodes} episodes)"
            )
            raise LogError(problem, "Write the log again.", path=folder, column=key_name(key))
