"""Parquet (RLlib and others): one file or a folder of shards, one transition per row."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import check_count, regular_file
from hindsight_rl.logs.reading.cameras import filmed
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.formats import hive
from hindsight_rl.logs.reading.formats.arrow import (
    check_sizes,
    parquet_columns,
    read_parquet,
    to_numpy,
)
from hindsight_rl.logs.reading.formats.arrow_pictures import picture_columns, read_pictures
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table, natural, parts_of
from hindsight_rl.logs.reading.whole_frames import whole_frames

NEXT = "next."
"""How the column of what follows a picture begins."""


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a parquet file, or of a folder of shards in the order of their names.

    Names of folders such as ``episode=3`` are a column.

    Args:
        path: File or folder.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: Not parquet, no shards, shards that differ, or a column is missing.
    """
    files, partitions = hive.partitioned(path) if path.is_dir() else ([path], {})
    files = files or natural(path.glob("*.parquet"))
    check_count(len(files), "files", path)
    if not files:
        raise LogError("the folder holds no .parquet file", "Give the folder of shards.", path=path)
    held = parquet_columns(files[0])
    held += [key for key in partitions if key not in held]
    resolved = resolve(columns, held, files[0])
    hive.check_meaning(list(partitions), resolved, path)
    held_pictures = picture_columns(files[0])
    shown = [name for name in held_pictures if name in filmed(resolved)]
    table = table_of(files, resolved, path, partitions, shown)
    table.values.update(_pictures(files, shown, held_pictures, resolved))
    return replace(table, held=tuple(held))


def _pictures(
    files: list[Path], shown: list[str], held: list[str], columns: ColumnMap
) -> dict[str, Array]:
    """Return the columns of pictures that a map names.

    ``write_log`` writes what the last step of each episode led to as ``next.NAME`` beside ``NAME``,
    empty in all other rows.
    """
    named, found = wanted(columns), dict[str, Array]()
    for name in shown:
        frames, rows = read_pictures(files, name, columns)
        count = sum(pa.parquet.read_metadata(file).num_rows for file in files)
        if len(rows) != count:
            empty = int(np.setdiff1d(np.arange(count), rows)[0])
            raise LogError("an empty cell", "Fill it in.", path=files[0], column=name, row=empty)
        after = f"{NEXT}{name}"
        if after in held and after not in named:
            last, ends = read_pictures(files, after, columns)
            if len(ends) < count:
                frames = whole_frames(frames, last, np.arange(len(ends)), ends)
        found[name] = frames
    return found


def table_of(
    files: list[Path],
    resolved: ColumnMap,
    path: Path,
    partitions: hive.Partitions | None = None,
    apart: Collection[str] = (),
) -> Table:
    """Return the joined columns of several parquet files.

    Args:
        files: Files in order.
        resolved: Column map whose columns the first file holds.
        path: The whole source, for messages.
        partitions: Columns that the folders of the files are named by.
        apart: Columns that lie elsewhere, and are left out here.

    Returns:
        The table; ``parts`` says which rows come from which file.

    Raises:
        LogError: A file differs from the first one or holds no numbers.
    """
    said = partitions or {}
    inside = parquet_columns(files[0]) if said else []
    named = [name for name in wanted(resolved) if name not in apart]
    names = [name for name in named if name not in said or name in inside]
    for file in files:
        regular_file(file)
    check_sizes(files, names, path)
    shards = [_shard(file, names, files[0]) for file in files]
    values: dict[str, Array] = {}
    for name in names:
        arrays = [to_numpy(shard[name], name, at) for at, shard in zip(files, shards, strict=True)]
        for file, array in zip(files, arrays, strict=True):
            _check_alike(array, arrays[0], name, file, files[0])
        values[name] = np.concatenate(arrays)
    lengths = [len(shard) for shard in shards]
    parts = parts_of(files, lengths) if path.is_dir() else ()
    for name in (key for key in said if key in named):
        column = hive.spread(said[name], lengths)
        if name in values:
            hive.check_same(name, values[name], column, parts, path)
        values[name] = column
    return Table(resolved, values, parts=parts)


def _check_alike(array: Array, first: Array, name: str, file: Path, first_file: Path) -> None:
    # Widths of empty lists are unknown, so an empty shard goes with anything.
    same = array.shape[1:] == first.shape[1:] and array.dtype.kind == first.dtype.kind
    if len(array) and len(first) and not same:
        raise LogError(
            f"rows of {list(array.shape[1:])} {array.dtype} where {first_file.name} has "
            f"{list(first.shape[1:])} {first.dtype}",
            "Write all shards alike.",
            path=file,
            column=name,
        )


def _shard(file: Path, names: list[str], first: Path) -> pa.Table:
    missing = set(names) - set(parquet_columns(file))
    if missing:
        raise LogError(
            f"no such column, but {first.name} has it",
            "Remove the shard or write it again.",
            path=file,
            column=sorted(missing)[0],
        )
    return read_parquet(file, names)
