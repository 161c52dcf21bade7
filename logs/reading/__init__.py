"""Reading logs that somebody else recorded: ten formats, one column map, one set of checks."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hindsight_rl.keys import STEP, TERMINATED
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import regular_file
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.problems import Problems, nearest
from hindsight_rl.logs.reading.assembly import Assembly, assemble
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.equal_ends import warn_of_equal_ends
from hindsight_rl.logs.reading.guesses import guessed_fields, said_of, sentences
from hindsight_rl.logs.reading.own import SUFFIXES, own_reader, reader_named
from hindsight_rl.logs.reading.own import register_reader as register_reader
from hindsight_rl.logs.reading.own_maps import own_map
from hindsight_rl.logs.reading.table import Table, check_columns
from hindsight_rl.logs.reading.text_options import (
    BAG_OPTIONS,
    DEMONSTRATION_OPTIONS,
    PACKED,
    TEXT_OPTIONS,
    ZARR_OPTIONS,
)
from hindsight_rl.logs.reading.time_order import jumps_of, warn_of_jumps
from hindsight_rl.logs.reading.unasked import check_unasked_images
from hindsight_rl.logs.remote import is_remote, local_copy
from hindsight_rl.plugins import import_installed

Columns = ColumnMap | str | Path | Mapping[str, Any]

# Formats that say themselves what each column is: nothing of it is guessed.
_NAMED = ("minari", "lerobot", "rosbag", "log")
# What a folder of each format holds.
_MARKS = {
    "header.json": "log",
    "meta/info.json": "lerobot",
    "metadata.json": "minari",
    "data/metadata.json": "minari",
    ".zgroup": "zarr",
    ".zarray": "zarr",
    "zarr.json": "zarr",
    "*.parquet": "parquet",
    "*=*/**/*.parquet": "parquet",
    **{f"{below}*{ending}*": "rosbag" for below in ("", "*/") for ending in (".mcap", ".db3")},
}


def read_log(source: str | Path, columns: Columns | None = None) -> Log:
    """Return the log of one source.

    Args:
        source: File, folder, id of a local Minari dataset, or address in an object store.
        columns: Column map, the short name of a packaged one, or the path of a YAML file; ``None``
            where the source uses the usual names.

    Returns:
        The checked log.

    Raises:
        LogError: The source cannot be read or something in it is wrong; nothing is half-read.
    """
    content, findings = _read(source, ColumnMap.load(columns), collect=False)
    if isinstance(content, Log):
        return content
    warn_of_jumps(content.jumps, findings.path)
    return Log.from_columns(content.columns, content.info)


def read_logs(
    sources: str | Path | Sequence[str | Path],
    columns: Columns | Sequence[Columns | None] | None = None,
    weights: Sequence[float] | None = None,
) -> Log:
    """Return one log of one or several sources.

    Args:
        sources: One source or several.
        columns: One column map for all, or a list with one for each source.
        weights: How often each source is drawn, relative to the others, whatever its size;
            ``None``: every row as often as any other.

    Returns:
        The log; for one source without weights exactly :func:`read_log`.

    Raises:
        LogError: A source is wrong, the counts disagree, or sources do not go together.
    """
    paths = [sources] if isinstance(sources, (str, Path)) else list(sources)
    maps: list[Any] = (
        list(columns) if isinstance(columns, (list, tuple)) else [columns] * len(paths)
    )
    for name, given in (("column maps", maps), ("weights", weights)):
        if given is not None and len(given) != len(paths):
            raise LogError(f"{len(given)} {name} for {len(paths)} sources", "Give one for each.")
    if not paths:
        raise LogError("no source is given", "Give at least one file, folder or dataset id.")
    logs = [read_log(path, map_) for path, map_ in zip(paths, maps, strict=True)]
    if len(logs) == 1:
        return logs[0]
    return Log.concatenate(logs, weights or [float(len(log)) for log in logs])


def survey(source: str | Path, columns: Columns | None = None) -> tuple[Assembly, list[LogError]]:
    """Return what a source holds together with everything found wrong with it.

    For looking only: the columns may hold NaN and contradictions, so no log is made of them.

    Args:
        source: As in :func:`read_log`.
        columns: As in :func:`read_log`.

    Returns:
        Columns as numpy arrays with their facts, and the problems.

    Raises:
        LogError: The source is so wrong that nothing can be said of it.
    """
    content, findings = _read(source, ColumnMap.load(columns), collect=True)
    if isinstance(content, Log):
        # Frames as they lie: those of whole episodes are more than memory may hold twice.
        arrays = {key: content.column(key).numpy() for key in content.packed_keys()}
        arrays |= {key: frames.pixels[:].numpy() for key, frames in content.images.items()}
        about = {"source": str(source), "format": "log"} | content.info
        content = Assembly(arrays, about, jumps_of(arrays))
        return content, findings.found
    return replace(content, guessed=findings.guesses), findings.found


def topics_of(source: str | Path, columns: Columns | None = None) -> dict[str, Any] | None:
    """Return what a bag holds, without a column map for it.

    Args:
        source: As in :func:`read_log`.
        columns: As in :func:`read_log`; only its format counts.

    Returns:
        ``bags``, ``topics`` and ``lost`` of :func:`formats.rosbag.overview`; ``None`` for a source
        of another format.

    Raises:
        LogError: There is no such source, or it cannot be read.
    """
    format_, path = locate(source, ColumnMap.load(columns))
    if format_ != "rosbag":
        return None
    overview: Callable[[Path], dict[str, Any]]
    overview = importlib.import_module(f"{__name__}.formats.rosbag").overview
    return overview(path)


def _read(
    source: str | Path, columns: ColumnMap, *, collect: bool
) -> tuple[Assembly | Log, Problems]:
    format_, path = locate(source, columns)
    if not path.is_dir():
        regular_file(path)
    if not columns.given().keys() - {"format"}:
        columns = own_map(format_, path) or columns
    _check_own_options(columns, format_, path)
    module = f"{__name__}.formats.{'saved' if format_ == 'log' else format_}"
    named = format_ in _NAMED
    read = reader_named(format_) or importlib.import_module(module).read
    try:
        content = _content(read, path, columns, named)
        if isinstance(content, Log):
            _check_ends(content, path)
            return content, Problems(path, collect)
        guessed = {} if named else guessed_fields(columns, content.columns)
        findings = Problems(path, collect, content.parts, sentences(guessed), guessed)
        check_columns(content, findings)
        check_unasked_images(columns, content, findings)
        made = assemble(content, findings)
    except (MemoryError, RecursionError) as error:
        why = "more memory than there is" if isinstance(error, MemoryError) else "too deep nesting"
        raise LogError(
            f"it cannot be read ({why})", "Read it where there is more, or split it.", path=path
        ) from error
    given = {name: value for name, value in content.columns.given().items() if value is not None}
    about = {"source": str(source), "format": format_, "columns": given}
    return replace(made, info=about | made.info), findings


def _content(
    read: Callable[[Path, ColumnMap], Table | Log], path: Path, columns: ColumnMap, named: bool
) -> Table | Log:
    """Return what a reader reads, its errors saying what was only guessed."""
    try:
        return read(path, columns)
    except LogError as error:
        raise (error if named else said_of(error, columns)) from error.__cause__


def _check_ends(log: Log, path: Path) -> None:
    ends = log.episode_ends().numpy()
    warn_of_equal_ends(
        log.column(TERMINATED).numpy()[ends], log.column(STEP).numpy()[ends] + 1, path
    )


def locate(source: str | Path, columns: ColumnMap) -> tuple[str, Path]:
    """Return format and path of a source.

    Args:
        source: As in :func:`read_log`.
        columns: Its column map, which may name the format.

    Returns:
        Name of the format; the file or folder that is read.

    Raises:
        LogError: There is no such source, or nothing says its format.
    """
    path = _existing(source)
    if path.name == "main_data.hdf5" and (path.parent / "metadata.json").exists():
        path = path.parent  # the inside of a Minari dataset
    _check_age(path, columns)
    if columns.format:
        files = {*SUFFIXES.values()} - {"parquet", "rosbag", "zarr"}
        if path.is_dir() and columns.format in files:
            raise LogError(
                f"a folder, and a log of format {columns.format} is a file",
                "Give its files as a list of sources.",
                path=path,
            )
        return columns.format, path
    import_installed()
    if (own := own_reader(path)) is not None:
        return own.name, path
    if path.is_dir():
        for mark, name in _MARKS.items():
            if any(path.glob(mark)):
                return name, path
        raise LogError(
            "the folder is no log of a known format",
            "Give a saved log, a LeRobot or Minari dataset, a bag of ROS 2, a Zarr store, a "
            "folder of .parquet files, or a list of files.",
            path=path,
        )
    ending = path.suffix.lower()
    if ending in PACKED:
        ending = "".join(path.suffixes[-2:]).lower()
    if ending not in SUFFIXES:
        raise LogError(
            f"the ending '{ending}' says no format",
            f"Known endings: {', '.join(SUFFIXES)}; or set `format` in the column map.",
            path=path,
        )
    return SUFFIXES[ending], path


def _check_age(path: Path, columns: ColumnMap) -> None:
    """Raise an error for the only file of a Minari dataset of old, or the folder that holds it."""
    if columns.format not in (None, "minari", "hdf5"):
        return
    folder = path if path.is_dir() else path.parent
    inside = path.name == "main_data.hdf5" or (path.is_dir() and (path / "main_data.hdf5").exists())
    if path.is_dir() and (path / "data" / "main_data.hdf5").exists():
        folder, inside = path / "data", True
    if inside and not (folder / "metadata.json").exists():
        raise LogError(
            "a dataset from before Minari 0.5, which had no metadata.json",
            "Fetch or write it again with Minari 0.5 or later.",
            path=path,
        )


def _check_own_options(columns: ColumnMap, format_: str, path: Path) -> None:
    """Raise an error for options that the format would leave unread."""
    for names, of, what in (
        (TEXT_OPTIONS, "csv", "text files"),
        (BAG_OPTIONS, "rosbag", "bags"),
        (DEMONSTRATION_OPTIONS, "demonstrations", "demonstrations"),
        (ZARR_OPTIONS, "zarr", "Zarr stores"),
    ):
        given = [name for name in names if getattr(columns, name)]
        if given and format_ != of:
            raise LogError(
                f"{given[0]} is for {what}, and this is read as {format_}",
                "Remove it, or give each source a column map of its own.",
                path=path,
            )


def _existing(source: str | Path) -> Path:
    path = local_copy(str(source)) if is_remote(source) else Path(source)
    if "\0" in str(path):
        raise LogError(f"{str(path)[:100]!r} is no path", "Give a file or a folder.")
    if path.exists():
        return path
    root = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
    dataset = Path(root) / path
    if dataset.is_dir():
        return dataset
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    fix = nearest(path.name, siblings)
    if any(letter in path.name for letter in "*?["):
        fix = "Patterns are not looked up: list the files, [a.npz, b.npz], or give a folder. "
    raise LogError(
        "no such file, folder or local Minari dataset",
        f"{fix}Check the path; download Minari datasets beforehand.",
        path=path,
    )
