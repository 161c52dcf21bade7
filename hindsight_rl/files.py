"""Files and folders that are whole or absent: drafts beside their place, and renames.

    write_whole(path, lambda file: file.write(data))

    with whole_folder(path) as draft:
        (draft / "header.json").write_text(text)

Everything that the package writes goes through one of the two. A draft is called
``.NAME.PROCESS@HOST.draft``: that of a process which was killed is known by it, and removed by the
next process that writes in the same folder. What a folder replaces is called
``.NAME.PROCESS@HOST.replaced`` for a moment; left over, it is put back unless there is a new one.
"""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

DRAFT = ".draft"
"""Ends the names of what is being written; nothing that is finished is called so."""

_REPLACED = ".replaced"
_NAME = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)@(?P<host>.+)\.(draft|replaced)")
_FIXES = {
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EISDIR: "a folder has this name, choose another one",
    errno.EEXIST: "a part of this path is a file, choose another folder",
    errno.ENOTEMPTY: "this is there already, choose another name",
    errno.ENOTDIR: "a part of this path is a file, choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_ROOM = (errno.ENOSPC, errno.EDQUOT)
# A draft that nobody has written to for so long is left over, whoever has its process number now.
_LEFT_OVER_S = 24 * 3600.0
_SPARE = 4 << 20  # bytes that a library may hold back before it writes them
_being_written: set[Path] = set()


class WriteError(OSError):
    """Something cannot be written; what was there before is untouched.

    Args:
        path: What was to be written.
        cause: What the system says.
    """

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path} cannot be written: {_why(path, cause)}")
        self.full = cause.errno in _ROOM


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file as a draft, flush it to the disk, and rename it.

    Args:
        path: The file; its folder is made where it is missing.
        write: Is given the open draft.

    Raises:
        WriteError: It cannot be written. What was there before is untouched, nothing else is left.
    """
    draft = _draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(path.parent)
        with _listed(draft):
            with draft.open("wb", buffering=2**20) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        _flush_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        _raise_as_told(path, draft, error)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Args:
        path: The file; its folder is made where it is missing.
        text: What it holds.

    Raises:
        WriteError: It cannot be written. What was there before is untouched, nothing else is left.
    """
    write_whole(path, lambda file: file.write(text.encode()))


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty draft of a folder, which is renamed when the block ends well.

    Args:
        path: The folder; its parents are made where they are missing.
        overwrite: Whether a folder that lies there is replaced.

    Yields:
        The draft, an absolute path.

    Raises:
        WriteError: It cannot be written, or there is such a folder. What was there before is
            untouched, nothing else is left.
    """
    # Absolute: Minari joins a relative folder to itself.
    draft = _draft_of(path).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(path.parent)
        with _listed(draft):
            draft.mkdir()
            yield draft
            if not overwrite and path.exists():  # a rename would replace an empty folder
                raise OSError(errno.ENOTEMPTY, "File exists")
            _put(draft, path)
        _flush_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        _raise_as_told(path, draft, error)


def remove_drafts(folder: Path) -> None:
    """Remove what processes that are gone have left half written in a folder.

    Args:
        folder: The folder; those below it are not looked at. A draft that is being written, by
            this process or another one, stays.
    """
    for draft in [*folder.glob(f".*{DRAFT}"), *folder.glob(f".*{_REPLACED}")]:
        named = _NAME.fullmatch(draft.name)
        if named is None or not _is_left_over(draft, int(named["process"]), named["host"]):
            continue
        with suppress(OSError):
            if draft.suffix == _REPLACED and not folder.joinpath(named["name"]).exists():
                os.replace(draft, folder / named["name"])
            elif draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft)
            else:
                draft.unlink(missing_ok=True)


def require_room(draft: Path, size: int) -> None:
    """Raise if a folder being written has no room for what comes next.

    For libraries that do not survive a full disk: HDF5 ends the process while it closes its files.

    Args:
        draft: The folder.
        size: Bytes to come.

    Raises:
        OSError: The disk is too full, or files may not grow so large.
    """
    needed = size + _SPARE
    if shutil.disk_usage(draft).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        import resource  # Windows has none
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    largest = max((path.stat().st_size for path in draft.rglob("*")), default=0)
    if limit != resource.RLIM_INFINITY and largest + needed > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}@{socket.gethostname()}{DRAFT}")


@contextmanager
def _listed(draft: Path) -> Iterator[None]:
    """Keep a draft listed as one that this process is writing."""
    place = draft.absolute()
    _being_written.add(place)
    try:
        yield
    finally:
        _being_written.discard(place)


def _put(draft: Path, path: Path) -> None:
    """Move a finished folder to its place; an old one is set aside first and then removed."""
    if not path.exists():
        os.replace(draft, path)
        return
    aside = draft.with_suffix(_REPLACED)
    with _listed(aside):
        os.replace(path, aside)
        try:
            os.replace(draft, path)
        except OSError:
            os.replace(aside, path)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _is_left_over(draft: Path, process: int, host: str) -> bool:
    """Return whether nobody is going to finish a draft."""
    if draft.absolute() in _being_written:
        return False
    if host == socket.gethostname() and not is_alive(process):
        return True
    return _last_written(draft) < time.time() - _LEFT_OVER_S


def is_alive(process: int) -> bool:
    """Return whether another process of this machine has a number; ``True`` if it cannot be known.

    This process itself lists what it writes: a draft of its number that is not listed is one of a
    process that had the number before.
    """
    if os.name != "posix":  # elsewhere this very call would end the process
        return True
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _last_written(draft: Path) -> float:
    """Return when a draft, or anything in it, was last written to, in seconds of the epoch."""
    times = [0.0]
    for path in [draft, *draft.rglob("*")]:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _flush_folder(folder: Path) -> None:
    """Flush a folder, so that a rename outlives a power cut; Windows cannot."""
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _raise_as_told(path: Path, draft: Path, error: BaseException) -> NoReturn:
    """Raise an error; one of the system about a path says what could not be written."""
    if not isinstance(error, OSError) or isinstance(error, WriteError) or error.errno is None:
        raise error
    if error.filename is not None and not _concerns(Path(error.filename), path, draft):
        raise error  # something else that was read or written meanwhile
    raise WriteError(path, error) from error


def _concerns(named: Path, path: Path, draft: Path) -> bool:
    place, target, written = named.absolute(), path.absolute(), draft.absolute()
    return place in (target, written, *target.parents) or written in place.parents


def _why(path: Path, error: OSError) -> str:
    """Return the cause, what has not changed, and the fix."""
    why = error.strerror or str(error)
    if error.errno not in _ROOM:
        fix = _FIXES.get(error.errno or 0, "is its folder writable?")
        return f"{why}. Nothing that was there before has changed: {fix}"
    there = next(folder for folder in path.absolute().parents if folder.exists())
    disk = shutil.disk_usage(there)
    return (
        f"{why}; {disk.free / 2**20:,.1f} MiB free of {disk.total / 2**20:,.1f} on the disk of "
        f"{there}. Make room there."
    )
