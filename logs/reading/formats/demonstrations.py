"""HDF5 of demonstrations: one group, or one file, for each (robomimic, LIBERO, Isaac Lab, ALOHA).

Columns are named as within a demonstration, ``obs/joints``; the demonstrations are the episodes.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count, files_below, number_order
from hindsight_rl.logs.problems import listed, missing_column
from hindsight_rl.logs.reading.column_map import DELIMITERS, LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.column_values import columns_in
from hindsight_rl.logs.reading.formats.hdf5 import check_datasets, check_plain, datasets
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, resolve, wanted
from hindsight_rl.logs.reading.table import Table, natural

DEMONSTRATION = "demonstration"
"""Column of the number of the demonstration, which the files do not hold."""

_SEEN = ("observation", "next_observation", "achieved_goal", "next_achieved_goal", "image")
_ENDINGS = (".hdf5", ".h5")


class _Demonstration(NamedTuple):
    """A demonstration: its file, its name in it, and its datasets by their names within it."""

    path: Path
    name: str
    held: dict[str, h5py.Dataset]

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.path.name}, {self.name}" if self.name else self.path.name


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of all demonstrations, one below the other.

    Args:
        path: A file of groups with an action in each (those in ``data`` where there are some), a
            file that is one demonstration, or a folder of either.
        columns: Column map; ``filter_key`` names the list in ``mask`` that is read.

    Returns:
        The table; observations may have a row more per demonstration than actions.

    Raises:
        LogError: Not HDF5, no demonstration, one of them lacks a column or has another number of
            rows in it, or the datasets are larger, more or nested deeper than the limits.
    """
    try:
        with ExitStack() as opened:
            return _read(path, columns, opened)
    except LogError:
        raise
    except Exception as error:  # any way of being broken is the same to the caller
        raise unreadable(path, "HDF5", error) from error


def _read(path: Path, columns: ColumnMap, opened: ExitStack) -> Table:
    found = [
        demonstration
        for file in _files(path)
        for demonstration in _of_file(
            opened.enter_context(h5py.File(file, "r")), file, columns.filter_key
        )
    ]
    check_count(sum(len(one.held) for one in found), "datasets", path)
    _check_borders(columns, path)
    names = list(found[0].held)
    _check_said(columns, names, path)
    given = replace(columns, episode=DEMONSTRATION)
    resolved = resolve(given, [*names, DEMONSTRATION], path)
    asked = [name for name in wanted(resolved) if name != DEMONSTRATION]
    for one in found:
        for name in asked:
            if name not in one.held:
                raise missing_column(name, list(one.held), one.place)
            check_plain(one.held[name], name, path)
    for file in dict.fromkeys(one.path for one in found):
        own = [one.held[name] for one in found if one.path == file for name in asked]
        check_datasets(own, file)
    lengths = [_length(one, resolved, asked) for one in found]
    values: dict[str, Array] = {name: _joined(found, name, path) for name in asked}
    values[DEMONSTRATION] = np.repeat(np.arange(len(found)), lengths)
    return Table(resolved, values, held=(*names, DEMONSTRATION))


def _files(path: Path) -> list[Path]:
    """Return the files, in the order of their numbers."""
    if not path.is_dir():
        return [path]
    files = [file for ending in _ENDINGS for file in files_below(path, f"*{ending}")]
    if not files:
        raise LogError("the folder holds no .hdf5 and no .h5 file", "Name another one.", path=path)
    return natural(files)


def _of_file(file: h5py.File, path: Path, key: str | None) -> Iterator[_Demonstration]:
    """Yield the demonstrations of a file in the order of their numbers, those of a list alone."""
    data = _own(file, "data")
    home = data if isinstance(data, h5py.Group) else file
    names = sorted((name for name in home if _acts(_own(home, name))), key=number_order)
    if not names and not _acts(file):
        raise LogError(
            "no group in it holds actions, as a demonstration does "
            f"({', '.join(COMMON_NAMES['action'][:4])})",
            "Read it with `format: hdf5`, or name another file.",
            path=path,
        )
    if key is not None:
        names = _chosen(file, path, key, names)
    for name in names or [""]:
        group = home[name] if name else file
        yield _Demonstration(path, name, dict(datasets(group, path)))


def _own(group: h5py.Group, name: str) -> object:
    """Return what lies in a group under a name; links are not followed."""
    held = isinstance(group.get(name, getlink=True), h5py.HardLink)
    return group[name] if held else None


def _acts(group: object) -> bool:
    names = COMMON_NAMES["action"] if isinstance(group, h5py.Group) else ()
    return any(isinstance(_own(group, name), h5py.Dataset) for name in names)


def _chosen(file: h5py.File, path: Path, key: str, names: Sequence[str]) -> list[str]:
    """Return the demonstrations that a list names, in the order of their numbers."""
    lists = _own(file, "mask")
    known = list(lists) if isinstance(lists, h5py.Group) else []
    named = _own(lists, key) if isinstance(lists, h5py.Group) else None
    if not isinstance(named, h5py.Dataset):
        raise LogError(
            f"it has no list '{key}' of demonstrations in 'mask'",
            f"Set filter_key to one of {listed(known)}." if known else "Leave filter_key out.",
            path=path,
        )
    entries = [one.decode() if isinstance(one, bytes) else str(one) for one in named[()]]
    absent = [name for name in entries if name not in names]
    if absent or not entries:
        what = f"names '{absent[0]}', which is not there" if absent else "is empty"
        raise LogError(f"mask/{key} {what}", "Name another filter_key.", path=path)
    return [name for name in names if name in entries]


def _check_borders(columns: ColumnMap, path: Path) -> None:
    """Raise where the map says that episodes are something else than the demonstrations."""
    for name in DELIMITERS:
        if getattr(columns, name) not in (LEFT_OUT, None, False):
            raise LogError(
                f"the column map gives {name}, and each demonstration is an episode",
                f"Leave {name} out, or `format: demonstrations`.",
                path=path,
            )


def _check_said(columns: ColumnMap, names: Sequence[str], path: Path) -> None:
    """Raise where the map does not say what of a group of observations is observed."""
    inside = [name for name in names if name.split("/")[0] in COMMON_NAMES["observation"]]
    inside = [name for name in inside if "/" in name]
    if columns.observation == LEFT_OUT and inside:
        raise LogError(
            f"{len(inside)} columns are observed, and the column map does not say which are read",
            f"Name them, joined or as entries: `observation: [{', '.join(inside[:3])}]`. It holds "
            f"{listed(inside)}.",
            path=path,
        )


def _length(one: _Demonstration, resolved: ColumnMap, asked: Sequence[str]) -> int:
    """Return the steps of a demonstration, every column having that many."""
    longer = {name for field in _SEEN for name in columns_in(getattr(resolved, field))}
    steps = len(one.held[columns_in(resolved.action)[0]])
    for name in asked:
        rows = len(one.held[name])
        if rows != steps and not (name in longer and rows == steps + 1):
            raise LogError(
                f"{rows} rows, and {steps} actions in the same demonstration",
                "Correct the file, or leave the demonstration out by a filter_key.",
                path=one.place,
                column=name,
            )
    if not steps:
        raise LogError("a demonstration without a step", "Leave it out.", path=one.place)
    return steps


def _joined(found: Sequence[_Demonstration], name: str, path: Path) -> Array:
    """Return a column of all demonstrations."""
    first = found[0].held[name]
    extra = {one.held[name].shape[1:] for one in found}
    if len(extra) > 1:
        other = next(one for one in found if one.held[name].shape[1:] != first.shape[1:])
        raise LogError(
            f"rows of shape {list(other.held[name].shape[1:])}, and of {list(first.shape[1:])} in "
            f"{found[0].place}",
            "Read them apart.",
            path=other.place,
            column=name,
        )
    return np.concatenate([np.asarray(one.held[name][()]) for one in found])
