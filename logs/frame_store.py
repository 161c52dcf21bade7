"""Frames of cameras that lie in videos: decoded once into one file of bytes, and mapped from there.

A file ``NAME-HxW-DIGEST.frames`` holds ``[N + E, H, W, 3]`` uint8: the frames of the rows of every
episode, and behind them the last one again, which stands for what the last step led to. The digest
is that of the videos and times, so a dataset that changed is decoded anew.

Decoding may be stopped at any time: frames go to ``.NAME.part``, and the episodes that are safely
there are listed in ``.NAME.done``. The next run goes on behind them. Where several processes want
the same camera (one per device, say), one decodes it, and the others wait for it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hindsight_rl.files import WriteError
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import regular_file
from hindsight_rl.logs.video import Clip, Size, frames

COLOURS = 3
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_POLL_S = 0.2
_ENDS = 1 << 16  # bytes at both ends of a video; its index lies at one


class Camera(NamedTuple):
    """One camera of a dataset.

    Attributes:
        name: Of its column.
        clips: One per episode, in the order of the rows.
        recorded: Size of the videos.
        wanted: Size of the frames that are kept.
        interval: Seconds between two frames.
    """

    name: str
    clips: Sequence[Clip]
    recorded: Size
    wanted: Size
    interval: float

    @property
    def total(self) -> int:
        """Number of frames, N + E."""
        return sum(len(clip.times) + 1 for clip in self.clips)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.wanted[0] * self.wanted[1] * COLOURS


def stored_frames(camera: Camera, folder: Path) -> NDArray[np.uint8]:
    """Return the frames of a camera, decoded before or now.

    Args:
        camera: The camera.
        folder: Where the files lie; made where it is missing.

    Returns:
        ``[N + E, H, W, 3]`` uint8, mapped from the file.

    Raises:
        LogError: A video is missing or damaged, or the disk is full.
        WriteError: The folder cannot be written.
    """
    height, width = camera.wanted
    name = f"{_plain(camera.name)}-{height}x{width}-{_digest(camera)}.frames"
    file = folder / name
    size = camera.total * camera.frame_bytes
    if not file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _turn(file):
                if not file.exists():  # else another process was faster
                    _decode(camera, file, size)
        except OSError as error:
            raise WriteError(file, error) from error
    if file.stat().st_size != size:
        raise LogError(
            f"{file.stat().st_size:,} bytes where {size:,} were written",
            "Remove it: it is decoded again.",
            path=file,
        )
    # Copy-on-write: torch wants a writable buffer, nothing here writes to it.
    return np.memmap(file, np.uint8, mode="c", shape=(camera.total, height, width, COLOURS))


def _decode(camera: Camera, file: Path, size: int) -> None:
    """Write all episodes that are not there yet, and give the file its name."""
    part, listed = file.with_name(f".{file.name}.part"), file.with_name(f".{file.name}.done")
    done = _done(part, listed, size, len(camera.clips))
    missing = [clip for number, clip in enumerate(camera.clips) if number not in done]
    _check_disk(sum(len(clip.times) + 1 for clip in missing) * camera.frame_bytes, file)
    bar = tqdm(
        total=len(camera.clips),
        initial=len(done),
        desc=f"decoding {camera.name}",
        unit=" episodes",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,  # lines where there is no terminal
    )
    # What is there stays: without locks, another process may be writing the same bytes.
    handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    with bar, os.fdopen(handle, "r+b") as out, listed.open("w", encoding="utf-8") as log:
        out.truncate(size)
        log.writelines(f"{number}\n" for number in sorted(done))
        start = 0
        for number, clip in enumerate(camera.clips):
            if number not in done:
                out.seek(start * camera.frame_bytes)
                _write_episode(camera, clip, out)
                _to_disk(out)
                log.write(f"{number}\n")  # only now: a list that runs ahead would keep zeros
                _to_disk(log)
                bar.update()
            start += len(clip.times) + 1
    with suppress(FileNotFoundError):
        os.replace(part, file)
    listed.unlink(missing_ok=True)


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Wait until no other process decodes a file, and keep others waiting.

    The lock is one of the system, and ends with the process. Where there are none (some network
    file systems), nobody waits: processes then write the same bytes.
    """
    path = file.with_name(f".{file.name}.lock")
    handle, waits = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False
    try:
        while not _locked(handle):
            if not waits:
                warnings.warn(f"{file}: another process decodes it, this one waits", stacklevel=2)
            waits = True
            time.sleep(_POLL_S)
        yield
        path.unlink(missing_ok=True)  # after a failure the next one needs it
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Lock a file without waiting, and return whether nobody else holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _write_episode(camera: Camera, clip: Clip, out: BinaryIO) -> None:
    """Write the frames of an episode, the last one twice."""
    pixels = np.zeros(0, np.uint8)
    for pixels in frames(clip, camera.recorded, camera.wanted, camera.interval):
        out.write(np.ascontiguousarray(pixels).data)
    out.write(np.ascontiguousarray(pixels).data)


def _done(part: Path, listed: Path, size: int, count: int) -> set[int]:
    """Return the episodes that a run before has finished; none unless its file is whole."""
    if not part.is_file() or not listed.is_file() or part.stat().st_size != size:
        return set()
    lines = listed.read_text(encoding="utf-8").split("\n")[:-1]  # a line without an end is cut
    return {int(line) for line in lines if line.isdecimal() and int(line) < count}


def _check_disk(needed: int, file: Path) -> None:
    free = shutil.disk_usage(file.parent).free
    if needed > free:
        raise LogError(
            f"its frames take {needed / 2**30:,.1f} GiB, and the disk has {free / 2**30:,.1f} free",
            "Keep smaller ones (`resize: [96, 96]` in the column map), or name a folder on another "
            "disk (`frame_cache: FOLDER`).",
            path=file.parent,
        )


def _digest(camera: Camera) -> str:
    """Return the hash of the videos, as far as their indices say it, and of the times."""
    digest = hashlib.sha256()
    facts = [1, camera.name, camera.recorded, camera.wanted, camera.interval]
    digest.update(json.dumps(facts).encode())
    seen: set[Path] = set()
    for clip in camera.clips:
        digest.update(f"{clip.file.name}:{len(clip.times)}".encode())
        digest.update(np.ascontiguousarray(clip.times, np.float64).data)
        if clip.file in seen:
            continue
        seen.add(clip.file)
        with regular_file(clip.file).open("rb") as video:
            size = os.fstat(video.fileno()).st_size
            digest.update(f"{size}:".encode() + video.read(_ENDS))
            video.seek(max(0, size - _ENDS))
            digest.update(video.read(_ENDS))
    return digest.hexdigest()[:16]


def _plain(name: str) -> str:
    """Return a name that any file system takes; names that become equal differ in the digest."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60].lstrip(".")


def _to_disk(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
