"""Readers from elsewhere: a format of your own, registered where its module is imported."""

from dataclasses import dataclass
from pathlib import Path

from hindsight_rl.logs.reading.table import Reader
from hindsight_rl.logs.reading.text_options import PACKED

SUFFIXES = {
    ".npz": "npz",
    ".csv": "csv",
    ".tsv": "csv",
    **{f"{text}{packed}": "csv" for text in (".csv", ".tsv") for packed in PACKED},
    ".hdf5": "hdf5",
    ".h5": "hdf5",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".mcap": "rosbag",
    ".db3": "rosbag",
    ".zip": "zarr",
}
"""Formats of this package by the endings of their files."""


@dataclass(frozen=True)
class OwnReader:
    """A reader and what it is chosen by.

    Args:
        name: Name of the format, in ``inspect`` and messages.
        read: Takes a path and a column map, returns a table. It calls ``resolve`` of
            ``hindsight_rl.logs.reading.resolve`` to find out which columns are wanted.
        suffixes: Endings of files, in lower case with their dot.
        mark: Pattern of a file that a folder of this format holds, ``None`` where it is no folder.
    """

    name: str
    read: Reader
    suffixes: tuple[str, ...] = ()
    mark: str | None = None

    def takes(self, path: Path) -> bool:
        """Return whether a file or folder is of this format, by its name."""
        if path.is_dir():
            return self.mark is not None and any(path.glob(self.mark))
        return path.name.lower().endswith(self.suffixes) if self.suffixes else False


_known: dict[str, OwnReader] = {}


def register_reader(
    name: str,
    read: Reader,
    *,
    suffixes: tuple[str, ...] = (),
    mark: str | None = None,
) -> None:
    """Have ``read_log`` and every command read a further format.

    Args:
        name: Of the format; registering the same name again replaces the reader.
        read: The reader.
        suffixes: Endings of its files, such as ``(".bag",)``.
        mark: Pattern of a file that its folders hold, such as ``"meta/robot.json"``.

    Raises:
        ValueError: It is chosen by nothing, or by an ending that another reader has.
    """
    if not suffixes and mark is None:
        raise ValueError(f"reader {name}: give suffixes or a mark to choose it by")
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise ValueError(f"reader {name}: '{suffix}' is no ending in lower case with its dot")
        others = [own.name for own in _known.values() if own.name != name]
        claimed = [other for other in others if suffix in _known[other].suffixes]
        if suffix in SUFFIXES or claimed:
            whose = claimed[0] if claimed else "this package"
            raise ValueError(f"reader {name}: files in '{suffix}' are read by {whose} already")
    _known[name] = OwnReader(name, read, tuple(suffixes), mark)


def own_reader(path: Path) -> OwnReader | None:
    """Return the registered reader of a file or folder, ``None`` where there is none."""
    return next((own for own in _known.values() if own.takes(path)), None)


def reader_named(name: str) -> Reader | None:
    """Return the registered reader of a format, ``None`` where it is none of them."""
    return _known[name].read if name in _known else None
