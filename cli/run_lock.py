"""The lock of a run folder: one ``fit`` at a time writes into it.

The lock is one of the operating system on the file ``.lock`` in the folder, which also names the
process that holds it. It ends with the process, however that ends. On a file system without such
locks (some network ones) the process that the file names counts, where it is of this machine.
"""

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hindsight_rl.files import WriteError, is_alive

LOCK = ".lock"
_HOLDER = re.compile(rb"(?P<process>\d{1,18})@(?P<host>\S+)")
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_PLACE = 1 << 30  # of the byte that Windows locks, which nobody else can read then


@contextmanager
def locked(run: Path, command: str = "fit", option: str = "--run") -> Iterator[bool]:
    """Hold a run folder; it is made where it is missing.

    Args:
        run: The folder.
        command: Which one runs in it, for messages.
        option: That names another folder, for messages.

    Yields:
        Whether it is new. One that is new and still empty at the end is removed.

    Raises:
        ValueError: Another process holds it.
        WriteError: The folder, or the file in it, cannot be written.
    """
    new, path = not run.exists(), run / LOCK
    handle = _taken(path, command, option)
    try:
        _write(handle, f"{os.getpid()}@{socket.gethostname()}".encode())
        yield new
    finally:
        _write(handle, b"")
        with suppress(OSError):
            if new and [entry.name for entry in run.iterdir()] == [LOCK]:
                path.unlink()
                run.rmdir()
        os.close(handle)


def check_free(run: Path) -> None:
    """Check that no process holds a run folder, before anything in it is read.

    Checkpoints of a run that goes on come and go.

    Args:
        run: The folder.

    Raises:
        ValueError: Another process holds it.
    """
    if (run / LOCK).exists():
        with locked(run):
            pass


def _taken(path: Path, command: str, option: str) -> int:
    """Return the handle of the file, locked."""
    handle = -1
    # A process that ended may have removed the file after it was opened here.
    while handle < 0 or not _is_at(handle, path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WriteError(path.parent, error) from error
        holder = _HOLDER.match(os.read(handle, 512))
        if not _is_free(handle, holder):
            os.close(handle)
            raise ValueError(_in_use(path.parent, holder, command, option))
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Return whether a path still names an open file; the file is closed where it does not."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), path.stat()):
            return True
    os.close(handle)
    return False


def _is_free(handle: int, holder: "re.Match[bytes] | None") -> bool:
    """Lock a file, and return whether that was possible."""
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in _HELD:
            return False
        # No locks here: the name of the process has to do.
        here = holder is not None and holder["host"].decode() == socket.gethostname()
        return holder is None or not here or not is_alive(int(holder["process"]))
    return True


def _lock(handle: int) -> None:
    """Lock a file, without waiting, until it is closed."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _PLACE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(handle: int, text: bytes) -> None:
    """Write who holds the file; the lock counts also where the disk is full."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text)


def _in_use(run: Path, holder: "re.Match[bytes] | None", command: str, option: str) -> str:
    who, fix = "another process", "wait until it has ended"
    if holder is not None:
        process, host = holder["process"].decode(), holder["host"].decode(errors="replace")
        here = host == socket.gethostname()
        who = f"process {process}" + ("" if here else f" on {host}")
        fix += f", or stop it with 'kill {process}'" if here else ""
    return f"{run} is in use: {who} runs '{command}' in it. Choose another {option}, or {fix}"
