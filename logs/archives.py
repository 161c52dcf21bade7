"""NumPy archives (.npz), opened with care: sizes before bytes, plain arrays only, no pickle."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count, check_memory

# Of the entries of a zip: an encrypted one is a RuntimeError, an unknown method a NotImplemented-
# Error, which is one too, and a damaged LZMA stream any of them.
DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError, SyntaxError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, ArithmeticError, AttributeError),
)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_archive(path: Path) -> np.lib.npyio.NpzFile:
    """Return an archive of named arrays; whoever opens it closes it.

    Args:
        path: The file.

    Returns:
        The archive, nothing of it loaded.

    Raises:
        LogError: Not an archive, cut, or of too many arrays.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(npy.MAGIC_PREFIX))
        if not begins.startswith((b"PK", npy.MAGIC_PREFIX)):  # NumPy would advise to unpickle it
            raise ValueError("it does not begin as one does")
        archive: Any = np.load(path, allow_pickle=False)
    except DAMAGE as error:
        raise unreadable(path, "an npz archive", error) from error
    if isinstance(archive, np.ndarray):
        raise LogError(
            "a single array, no archive", "Save named arrays with numpy.savez.", path=path
        )
    try:
        check_count(len(archive.files), "arrays", path)
    except LogError:
        archive.close()
        raise
    found: np.lib.npyio.NpzFile = archive
    return found


def arrays(archive: np.lib.npyio.NpzFile, names: list[str], path: Path) -> dict[str, Array]:
    """Return arrays of an archive, by their names in it.

    Args:
        archive: Of :func:`open_archive`.
        names: Of arrays that it holds.
        path: The file, for messages.

    Returns:
        The arrays.

    Raises:
        LogError: An array is damaged, of objects or there twice, or they unpack to more than the
            limit.
    """
    _check_sizes(archive, names, path)
    return {name: _array(archive, name, path) for name in names}


def _zip(archive: np.lib.npyio.NpzFile) -> zipfile.ZipFile:
    if archive.zip is None:
        raise ValueError("the archive is closed")
    return archive.zip


def _entry(archive: np.lib.npyio.NpzFile, name: str) -> zipfile.ZipInfo:
    """Return the entry of an array: NumPy appends ``.npy`` to its name."""
    entries = _zip(archive).NameToInfo
    return entries[f"{name}.npy"] if f"{name}.npy" in entries else entries[name]


def _check_sizes(archive: np.lib.npyio.NpzFile, names: list[str], path: Path) -> None:
    """Raise an error for columns that are there twice, or that unpack to more than the limit."""
    for name in names:
        if archive.files.count(name) > 1:
            raise LogError("two arrays of this name", "Rename one.", path=path, column=name)
    entries = [_entry(archive, name) for name in names]
    packed = min(sum(entry.compress_size for entry in entries), path.stat().st_size)
    check_memory(sum(entry.file_size for entry in entries), packed, path)


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        _check_shape(archive, name)
        return np.asarray(archive[name])
    except DAMAGE as error:
        if "Object arrays cannot be loaded" in str(error):
            raise LogError(
                "an array of Python objects, which would have to be unpickled",
                "Save it as a plain array: numpy.stack it, or leave the column out.",
                path=path,
                column=name,
            ) from error
        raise unreadable(f"{path}, column '{name}'", "an npz array", error) from error


def _check_shape(archive: np.lib.npyio.NpzFile, name: str) -> None:
    """Raise ``ValueError`` where an array's header promises other than its entry holds."""
    entry = _entry(archive, name)
    with _zip(archive).open(entry) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:  # written for names of fields that are not Latin
            raise ValueError(f"version {version} of the format holds no plain numbers")
        shape, _, dtype = _HEADERS[version](file)
        promised, held = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
    if not dtype.hasobject and (promised != held or any(size < 0 for size in shape)):
        raise ValueError(f"{held} bytes where shape {list(shape)} of {dtype} needs {promised}")
