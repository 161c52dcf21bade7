"""D4RL-style HDF5: plain numeric datasets, one row per transition."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count, check_depth, check_memory
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table


def read(path: Path, columns: ColumnMap) -> Table:
    """Return the columns of a file; a dataset in a group is named ``group/dataset``.

    Links to other files are not followed.

    Args:
        path: The file.
        columns: Column map.

    Returns:
        The table.

    Raises:
        LogError: Not HDF5, cut, a dataset that holds no plain numbers, a column is missing, or the
            datasets are larger, more or nested deeper than the limits.
    """
    try:
        with h5py.File(path, "r") as file:
            held = dict(datasets(file, path))
            resolved = resolve(columns, list(held), path)
            names = wanted(resolved)
            for name in names:
                check_plain(held[name], name, path)
            check_datasets((held[name] for name in names), path)
            values = {name: np.asarray(held[name][()]) for name in names}
    except LogError:
        raise
    except Exception as error:  # any way of being broken is the same to the caller
        raise unreadable(path, "HDF5", error) from error
    return Table(resolved, values, held=tuple(held))


def datasets(
    group: h5py.Group, path: Path, *, links: bool = True
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield name and dataset of each dataset below a group, in the order of their names.

    Links are not followed, and a group of several names has the first one.

    Args:
        group: Where to look.
        path: The file, for messages.
        links: Pass over links; ``False`` makes them an error, for a reader that follows them.

    Yields:
        ``group/dataset`` and the dataset.

    Raises:
        LogError: There are more, or they are nested deeper, than the limits, or there is a link.
    """
    seen, count = set[object](), 0
    # Items that wait, the next one last: h5py's own visit slows down with the square of the depth.
    waiting: list[tuple[str, h5py.Group | h5py.Dataset, int]] = [("", group, 0)]
    while waiting:
        at, item, depth = waiting.pop()
        check_depth(depth, path)
        if isinstance(item, h5py.Dataset):
            yield at, item
            continue
        if item.id in seen:
            continue
        seen.add(item.id)
        names = [name for name in item if isinstance(item.get(name, getlink=True), h5py.HardLink)]
        if not links and len(names) < len(item):
            raise LogError("it holds links", "Copy what they lead to.", path=path)
        count += len(names)
        check_count(count, "datasets and groups", path)
        below = ((f"{at}/{name}" if at else name, item[name]) for name in names)
        kinds = (h5py.Dataset, h5py.Group)
        waiting += reversed([(*pair, depth + 1) for pair in below if isinstance(pair[1], kinds)])


def check_datasets(held: Iterable[h5py.Dataset], path: Path) -> None:
    """Raise an error for datasets that unpack to more than what is stored of them can mean.

    Args:
        held: What is to be read.
        path: The file, for messages.

    Raises:
        LogError: Above the limit.
    """
    needed = stored = 0
    for dataset in held:
        needed += dataset.nbytes
        stored += dataset.id.get_storage_size()  # 0 where nothing was ever written
    check_memory(needed, min(stored, path.stat().st_size), path)


def check_plain(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """Raise an error for a dataset that is no array of numbers in this file.

    Args:
        dataset: The dataset.
        name: Its name, for messages.
        path: The file, for messages.

    Raises:
        LogError: It is none.
    """
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
