"""Limits of what is read: a file that somebody else wrote may claim more than it holds.

Sizes are compared before anything is allocated. Each limit is a named constant; an environment
variable, named in the error, raises it.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hindsight_rl.logs.errors import LogError, unreadable

UNQUESTIONED = 256 << 20
"""Bytes that a source may unpack to whatever its own size."""

LARGEST_RATIO = 100
"""Bytes in memory for one in the file, beyond ``UNQUESTIONED``: real logs stay below 50."""

JSON_BYTES = 64 << 20
"""Bytes of a JSON file at most."""

MOST_ENTRIES = 100_000
"""Columns of a file, datasets of an HDF5 file and files of a folder at most."""

DEEPEST = 32
"""Groups within groups at most."""

LONGEST_NAME = 200
"""Characters of a column's name at most, where patterns look for it and messages show it."""

MOST_STARS = 3
"""Numbers that a pattern of column names may stand for at most: each multiplies the search."""

GIB_VARIABLE = "HINDSIGHT_READ_GIB"
"""Environment variable: GiB that a source may unpack to, in place of the rule of its own size."""

ENTRIES_VARIABLE = "HINDSIGHT_READ_ENTRIES"
"""Environment variable in place of ``MOST_ENTRIES``."""

DEPTH_VARIABLE = "HINDSIGHT_READ_DEPTH"
"""Environment variable in place of ``DEEPEST``."""


_NUMBER = "([0-9]+)"


def regular_file(path: Path) -> Path:
    """Return a path unchanged if a file lies there, which can be read to its end.

    Args:
        path: Where to look; a link to a file is one.

    Returns:
        ``path``.

    Raises:
        LogError: Nothing lies there, or a folder, a pipe, a socket or a device: reading one of the
            last three may wait or go on for ever.
    """
    if not path.is_file():
        what = "no regular file, but a pipe or a device" if path.exists() else "no such file"
        what = "a folder, no file" if path.is_dir() else what
        fix = "Copy what it holds to a file and give that." if path.exists() else "Check the path."
        raise LogError(what, fix, path=path)
    return path


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files of a folder and of those in it, unordered.

    Args:
        folder: Where to look.
        pattern: Names looked for.

    Returns:
        Paths of regular files.

    Raises:
        LogError: A pipe or a device lies there, or there are more files than the limit.
    """
    found: list[Path] = []
    for path in folder.rglob(pattern):
        if not path.is_dir():
            found.append(regular_file(path))
            check_count(len(found), "files", folder)
    return found


def check_memory(
    needed: int,
    held: int,
    path: Path | str,
    column: str | None = None,
    *,
    in_file: bool = False,
) -> None:
    """Raise an error for a source that would unpack to more than a file of its size can mean.

    Args:
        needed: Bytes in memory that it declares.
        held: Bytes on disk that they come from.
        path: The source, for messages.
        column: Column at fault, where one alone is.
        in_file: It unpacks to a file, so that the memory of this machine does not matter.

    Raises:
        LogError: Above the limit, or above the memory of this machine.
    """
    given = _setting(GIB_VARIABLE)
    allowed = max(UNQUESTIONED, LARGEST_RATIO * held) if given is None else int(given * 2**30)
    memory = float("inf") if in_file else _memory()
    if needed <= allowed and (given is not None or needed <= memory):
        return
    beyond = f"this machine has {_size(memory)}" if memory < needed <= allowed else ""
    raise LogError(
        f"it unpacks to {_size(needed)} in memory, from {_size(held)} in the file"
        + (f"; {beyond}" if beyond else ""),
        "Reading takes about three times that. If the file is as it should be, read it with "
        f"{GIB_VARIABLE}={max(1, -(-needed // 2**30))} in the environment; else write or fetch it "
        "again.",
        path=path,
        column=column,
    )


def check_room(needed: int, path: Path | str, folder: Path | None = None) -> None:
    """Raise an error for frames, or what is fetched, that a folder has no room for.

    Args:
        needed: Bytes of them.
        path: The source, for messages.
        folder: Where they will lie; the folder for temporary files if ``None``.

    Raises:
        LogError: The disk has less.
    """
    free = shutil.disk_usage(folder or tempfile.gettempdir()).free
    if needed > free:
        where = f"in {folder}" if folder else "of frames in the folder for temporary files"
        raise LogError(
            f"it takes {_size(needed)} {where}, which has {_size(free)} free",
            f"Set {'HINDSIGHT_CACHE' if folder else 'TMPDIR'} to a folder on a larger disk.",
            path=path,
        )


def check_count(count: int, what: str, path: Path | str) -> None:
    """Raise an error for a source of too many columns, datasets or files.

    Args:
        count: How many there are.
        what: Of what, for messages.
        path: The source, for messages.

    Raises:
        LogError: Above the limit.
    """
    most = _setting(ENTRIES_VARIABLE)
    if count > (MOST_ENTRIES if most is None else most):
        raise LogError(
            f"more than {MOST_ENTRIES if most is None else int(most):,} {what}",
            f"Join them into fewer, or raise the limit: {ENTRIES_VARIABLE} in the environment.",
            path=path,
        )


def check_depth(depth: int, path: Path | str) -> None:
    """Raise an error for groups that are nested too deep.

    Args:
        depth: How deep they are.
        path: The source, for messages.

    Raises:
        LogError: Above the limit.
    """
    deepest = _setting(DEPTH_VARIABLE)
    if depth > (DEEPEST if deepest is None else deepest):
        raise LogError(
            f"groups are nested more than {DEEPEST if deepest is None else int(deepest)} deep",
            f"Write the columns flat, or raise the limit: {DEPTH_VARIABLE} in the environment.",
            path=path,
        )


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.

    Returns:
        What it holds, of any type.

    Raises:
        LogError: No regular file, too large, or no JSON.
    """
    return parse_json(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Args:
        path: The file.

    Returns:
        Its text.

    Raises:
        LogError: No regular file, above ``JSON_BYTES`` (``HINDSIGHT_READ_GIB`` raises it), or no
            UTF-8.
    """
    try:
        size = regular_file(path).stat().st_size
        given = _setting(GIB_VARIABLE)
        if size > max(JSON_BYTES, int((given or 0) * 2**30)):
            raise LogError(
                f"{_size(size)} of text where {_size(JSON_BYTES)} are expected at most",
                f"Raise the limit: {GIB_VARIABLE} in the environment.",
                path=path,
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "text", error) from error


def parse_json(text: str, path: Path | str, what: str = "JSON") -> Any:
    """Return what a JSON text says.

    Args:
        text: The text.
        path: Where it came from, for messages.
        what: What it is, for messages.

    Returns:
        What it says, of any type.

    Raises:
        LogError: It is no JSON, or nested deeper than Python reads it.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, what, error) from error


def number_order(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which ``part-2`` comes before ``part-10``, numbers of any length."""
    # Split at numbers, every second word is one.
    words = [word.lstrip("0") if i % 2 else word for i, word in enumerate(re.split(_NUMBER, text))]
    return [(i % 2, len(word) * (i % 2), word) for i, word in enumerate(words)]


def _setting(variable: str) -> float | None:
    """Return the positive number that an environment variable holds, ``None`` where it is unset."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise LogError(f"{variable} is {text[:50]!r}", "Give a positive number.")
    return value


def _memory() -> float:
    """Return the bytes of memory of this machine, infinity where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # no POSIX
        return float("inf")


def _size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count:,.0f} bytes"
