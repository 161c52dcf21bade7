"""A contact sheet: the first, middle and last frame of some episodes, for every camera of a log."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.files import write_whole
from hindsight_rl.keys import EPISODE, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.assembly import Assembly

if TYPE_CHECKING:
    from PIL.Image import Image

EPISODES = 4
"""Episodes shown at most, evenly spread."""

_CELL, _GAP, _LINE = 160, 6, 16  # pixels
_GREY = "#d8dade"
_MOMENTS = ("first", "middle", "last")


def contact_sheet(assembly: Assembly, path: Path) -> None:
    """Write the frames of a log into a picture; the ending says the format (.png, .jpg).

    Every row is an episode, three columns are a camera.

    Args:
        assembly: Columns and facts.
        path: File to write; it is whole or absent.

    Raises:
        LogError: The log has no images, or the ending is that of no picture.
    """
    from PIL import Image, ImageDraw  # of the training install

    cameras = [key for key, frames in assembly.columns.items() if _is_camera(key, frames)]
    if not cameras:
        raise LogError(
            "the log has no images that could be shown",
            "Name its cameras in the column map: `image: COLUMN`.",
        )
    Image.init()
    kind = Image.EXTENSION.get(path.suffix.lower())
    if kind is None:
        raise LogError(f"a picture cannot be a '{path.suffix}' file", "Name a .png.", path=path)
    shown = _moments(assembly.columns[EPISODE])
    pictures = [_pictures(assembly, key, shown) for key in cameras]
    tall = max(picture.height for rows in pictures for row in rows for picture in row)
    across, down = _CELL + _GAP, tall + _LINE + _GAP
    size = len(cameras) * len(_MOMENTS) * across + _GAP, _LINE + len(shown) * down + _GAP
    sheet = Image.new("RGB", size, _GREY)
    pen = ImageDraw.Draw(sheet)
    for number, key in enumerate(cameras):
        left = _GAP + number * len(_MOMENTS) * across
        pen.text((left, 2), key_name(key), fill="black")
        for line, (episode, rows) in enumerate(shown):
            top = _LINE + line * down
            for place, row in enumerate(rows):
                what = _MOMENTS[place] if place else f"episode {episode}"
                pen.text((left + place * across, top), f"{what}, row {row}", fill="black")
                sheet.paste(pictures[number][line][place], (left + place * across, top + _LINE))
    write_whole(path, lambda file: sheet.save(file, format=kind))


def _is_camera(key: Key, frames: NDArray[np.generic]) -> bool:
    return frames.dtype == np.uint8 and frames.ndim > 2 and "next" not in key


def _moments(number: NDArray[np.int64]) -> list[tuple[int, tuple[int, int, int]]]:
    """Return some episodes, and the rows of each that are shown."""
    lengths = np.bincount(number)
    stops = np.cumsum(lengths)
    chosen = np.unique(np.linspace(0, len(lengths) - 1, EPISODES).round().astype(int))
    first, last = stops - lengths, stops - 1
    return [(int(e), (int(first[e]), int(first[e] + last[e]) // 2, int(last[e]))) for e in chosen]


def _pictures(
    assembly: Assembly, key: Key, shown: Sequence[tuple[int, tuple[int, int, int]]]
) -> list[list["Image"]]:
    """Return the pictures of a camera, those of an episode together."""
    frames = assembly.columns[key]
    whole = len(frames) > len(assembly.columns[EPISODE])  # one more for each episode
    return [[picture(frames[row + episode * whole]) for row in rows] for episode, rows in shown]


def picture(frame: NDArray[np.uint8]) -> "Image":
    """Return a frame as a picture of one size.

    Args:
        frame: ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``, or a stack of them.

    Returns:
        The picture, its longer side 160 pixels.
    """
    from PIL import Image  # of the training install

    if frame.ndim == 3 and frame.shape[-1] not in (1, 3, 4) and frame.shape[0] in (1, 3, 4):
        frame = np.moveaxis(frame, 0, -1)
    if frame.ndim > 3:  # a stack: its newest frame
        return picture(frame[-1])
    if frame.ndim == 3 and frame.shape[-1] not in (3, 4):
        frame = frame[..., 0]
    found = Image.fromarray(np.ascontiguousarray(frame[..., :3] if frame.ndim == 3 else frame))
    scale = _CELL / max(found.size)
    size = [max(1, round(side * scale)) for side in found.size]
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return found.convert("RGB").resize((size[0], size[1]), how)
