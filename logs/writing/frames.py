"""Images of a log as they are written: PNG in columns of Arrow, and what each last step led to."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hindsight_rl.keys import Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.pictures import CHANNELS, png_of
from hindsight_rl.logs.rows import SPAN

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Type of a column of pictures, as Hugging Face's ``datasets`` has it."""

_TOGETHER = 64 << 20  # bytes of frames that are held at a time


def image_keys(log: Log) -> list[Key]:
    """Return the keys of images, each of frames that a picture can hold.

    Args:
        log: The log.

    Returns:
        Keys; what follows a frame is one only where it is a column of its own.

    Raises:
        LogError: Images of other channels than a picture has.
    """
    for key, frames in log.images.items():
        if len(frames.shape) != 3 or frames.shape[-1] not in CHANNELS or 0 in frames.shape:
            raise LogError(
                f"its images are of shape {list(frames.shape)}, and pictures are [H, W, C] of 1, 3 "
                "or 4 channels",
                "Leave it out of the column map.",
                path=log.sources[0].name,
                column=key_name(key),
            )
    return list(log.images)


def spans(log: Log) -> list[slice]:
    """Return slices of adjacent rows that cover the log, small enough for memory with frames."""
    size = sum(math.prod(frames.shape) for frames in log.images.values())
    step = max(1, min(SPAN, _TOGETHER // size)) if size else SPAN
    return [slice(at, min(at + step, len(log))) for at in range(0, len(log), step)]


def pictures(log: Log, key: Key, rows: slice) -> pa.Array:
    """Return the frames of some rows as a column of pictures."""
    return packed(log.column(key, rows).numpy())


def packed(frames: NDArray[np.uint8]) -> pa.Array:
    """Return frames ``[N, H, W, C]`` as a column of pictures."""
    return pa.array([{"bytes": png_of(frame), "path": None} for frame in frames], PICTURE)


def last_frames(log: Log, key: Key, rows: slice) -> pa.Array:
    """Return what the last step of each episode led to, empty cells in all other rows."""
    ends = log.episode_ends().numpy()
    inside = ends[(ends >= rows.start) & (ends < rows.stop)]
    cells: list[Any] = [None] * (rows.stop - rows.start)
    for end, frame in zip(inside.tolist(), _after(log, key, inside.tolist()), strict=True):
        cells[end - rows.start] = {"bytes": png_of(frame), "path": None}
    return pa.array(cells, PICTURE)


def _after(log: Log, key: Key, rows: list[int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frame that each of some rows led to."""
    for row in rows:
        yield log.column(next_key(key), slice(row, row + 1)).numpy()[0]


def led_to(log: Log) -> list[Key]:
    """Return the images of which it is kept what the last step of each episode led to."""
    return [key for key, frames in log.images.items() if frames.whole]


def last_table(log: Log, names: Mapping[Key, str]) -> pa.Table:
    """Return what the last step of each episode led to, a row per episode.

    Args:
        log: The log.
        names: Name of each key that is written.

    Returns:
        A column for each image of whole episodes, called as it is.
    """
    ends = log.episode_ends().tolist()
    columns = {
        names[key]: pa.array(
            [{"bytes": png_of(frame), "path": None} for frame in _after(log, key, ends)], PICTURE
        )
        for key in led_to(log)
    }
    return pa.table(columns)
