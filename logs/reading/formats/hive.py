"""Parquet in folders named ``key=value``, as Hive, Spark and pandas partition a table.

The rows of a file have the values that its folders are named by.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from hindsight_rl.logs.checks import Array, first
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import files_below
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.table import natural

# What is the same in all rows of an episode, so that its rows stay together.
_WHOLE_EPISODES = ("episode", "task", "success", "context", "extra")
_NOTHING = "__HIVE_DEFAULT_PARTITION__"

Partitions = dict[str, Array]
"""Value of each key by file, ``[F]`` int64 or text."""


def partitioned(path: Path) -> tuple[list[Path], Partitions]:
    """Return the files below a folder and what their folders say.

    Args:
        path: The folder.

    Returns:
        Files in the order of their paths; keys and values. Nothing of either where no folder in it
        is named ``key=value``.

    Raises:
        LogError: Folders of other names or unequal keys, an empty value, or files beside folders.
    """
    if not any(folder.is_dir() for folder in path.glob("*=*")):
        return [], {}
    files = [file for file in natural(files_below(path, "*.parquet")) if _is_data(file, path)]
    said = [_said(file, path) for file in files]
    for file, values in zip(files, said, strict=True):
        if list(values) != list(said[0]) or not values:
            raise LogError(
                f"the keys of its folders are {_keys(values)}, those of another file's "
                f"{_keys(said[0])}",
                "Give every file the same keys, or give one of the folders.",
                path=file,
            )
        if _NOTHING in values.values():
            raise LogError("its folder says that a value is missing", "Name it.", path=file)
    keys = list(said[0]) if said else []
    return files, {key: _column([values[key] for values in said]) for key in keys}


def check_meaning(keys: Sequence[str], resolved: ColumnMap, path: Path) -> None:
    """Check that no key parts the rows of an episode: nothing says in which order they were.

    Args:
        keys: Keys of the folders.
        resolved: Column map in which every column is named.
        path: The source, for messages.

    Raises:
        LogError: A key stands for something that changes from row to row.
    """
    for field, value in resolved.given().items():
        named = value if isinstance(value, list) else [value]
        key = next((key for key in keys if key in named), None)
        if key is not None and field not in _WHOLE_EPISODES:
            raise LogError(
                f"the folders are parted by '{key}', taken for {field}: the rows of an episode lie "
                "in several of them, and nothing says in which order they were",
                "Write the table again parted by episode, or by something that an episode has one "
                "value of.",
                path=path,
            )


def spread(values: Array, lengths: Sequence[int]) -> Array:
    """Return a value per file as a value per row ``[N]``."""
    return np.repeat(values, lengths)


def check_same(
    name: str, stored: Array, said: Array, parts: Sequence[tuple[int, str]], path: Path
) -> None:
    """Raise an error for a column that files hold too, with other values than their folders.

    Args:
        name: The column.
        stored: ``[N]`` as the files have it.
        said: ``[N]`` as the folders say.
        parts: First row and name of each file.
        path: The source, for messages.

    Raises:
        LogError: A row differs.
    """
    row = first(stored.astype(str) != said.astype(str)) if stored.shape == said.shape else 0
    if row is not None:
        start, file = max(part for part in parts if part[0] <= row)
        raise LogError(
            f"{stored[row]} in a folder named {name}={said[row]}",
            "Write the table again: one of them is wrong.",
            path=file or path,
            column=name,
            row=row - start,
        )


def _is_data(file: Path, path: Path) -> bool:
    """Return whether no folder is marked as a writer's own (``_temporary``, ``.tmp``)."""
    return not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)


def _said(file: Path, path: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for folder in file.relative_to(path).parts[:-1]:
        key, equals, value = folder.partition("=")
        if not equals or not key or unquote(key) in found:
            raise LogError(
                f"the folder '{folder}' is not named key=value, as others here are",
                "Name it so, or give one of the folders.",
                path=file,
            )
        found[unquote(key)] = unquote(value)
    return found


def _keys(values: Mapping[str, str]) -> str:
    return ", ".join(values) or "none"


def _column(values: list[str]) -> Array:
    """Return whole numbers where all are written as such, else text: 01 is not 1."""
    try:
        numbers = [int(value) for value in values]
        if [str(number) for number in numbers] == values:
            return np.array(numbers, np.int64)
    except (ValueError, OverflowError):
        pass
    return np.array(values, str)
