"""A log as a folder: written whole, and read back with everything checked."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from hindsight_rl.files import whole_folder, write_text
from hindsight_rl.keys import EPISODE, Key
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import (
    HEADER,
    MATRIX,
    ROWS,
    Header,
    Source,
    check_columns,
    check_frames,
    frames_file,
    make_header,
    read_file,
    read_header,
    write_rows,
)
from hindsight_rl.logs.frames import Frames, pixels_of
from hindsight_rl.logs.packed import PackedColumns, content_hash
from hindsight_rl.logs.saved_checks import check_values

if TYPE_CHECKING:
    from hindsight_rl.logs.log import Log


def save(log: "Log", path: str | Path) -> None:
    """Write a log as a folder, see :meth:`Log.save`.

    Args:
        log: The log.
        path: Folder to make.

    Raises:
        LogError: The folder exists.
    """
    if (target := Path(path)).exists():
        raise LogError("already exists", "Choose another name or remove it.", path=target)
    whole = one_block(log)
    pixels = pixels_of(log.images)
    header = make_header(
        whole,
        log.rows,
        [content_hash(whole, pixels), log.hash()],
        [[s.start, s.stop, s.weight, s.name] for s in log.sources],
        log.info,
        pixels,
    )
    with whole_folder(target) as draft:
        write_rows(draft / MATRIX, whole.matrix)
        for number, frames in enumerate(pixels.values()):
            write_rows(draft / frames_file(number), frames)
        if log.rows is not None:
            log.rows.numpy().tofile(draft / ROWS)
        write_text(draft / HEADER, json.dumps(header, indent=1))


def one_block(log: "Log") -> PackedColumns:
    """Return all packed columns of a log in one block."""
    if len(log.blocks) == 1:
        return log.blocks[0]
    return PackedColumns.pack({key: log.column(key) for key in log.packed_keys()})


class Stored(NamedTuple):
    """What a folder holds, checked: the arguments of a log by their names there."""

    blocks: tuple[PackedColumns]
    info: dict[str, Any]
    sources: tuple[Source, ...]
    images: dict[Key, Frames]
    rows: Tensor | None
    promise: tuple[str, str] | None
    folder: str


def stored(folder: Path, memory_map: bool) -> Stored:
    """Return what a folder holds, see :meth:`Log.load`.

    Args:
        folder: The folder.
        memory_map: Leave the matrix on disk.

    Returns:
        Its contents.

    Raises:
        LogError: It is no saved log, or a damaged one.
    """
    header = read_header(folder)
    check_columns(header, folder)
    shape = header.rows, sum(column.width for column in header.columns.values())
    words = read_file(folder / MATRIX, np.float32, shape, memory_map, longer=True)
    block = PackedColumns(words, header.columns)
    images = _images(header, folder, memory_map)
    rows: Tensor | None = None
    if header.drawable is not None:
        rows = read_file(folder / ROWS, np.int64, [header.drawable], memory_map)
    check_values(block, rows, header.info, folder)
    episodes = int(block.column(EPISODE, slice(header.rows - 1, None))) + 1
    check_frames(header.images, header.rows, episodes, folder)
    info = header.info | ({"memory_mapped": True} if memory_map else {})
    return Stored((block,), info, header.sources, images, rows, header.hash, str(folder))


def _images(header: Header, folder: Path, memory_map: bool) -> dict[Key, Frames]:
    return {
        key: Frames(
            read_file(folder / frames_file(number), np.uint8, shape, memory_map, longer=True),
            shape[0] > header.rows,
        )
        for number, (key, shape) in enumerate(header.images.items())
    }


def promised_hash(log: "Log", found: str) -> str:
    """Return the hash of the log that was saved.

    Args:
        log: A loaded log.
        found: Hash of what its folder holds.

    Returns:
        16 hexadecimal digits; ``found`` where the log was not loaded.

    Raises:
        LogError: The bytes are not those that were written.
    """
    if log.promise is None:
        return found
    written, identity = log.promise
    if found != written:
        files = [MATRIX, *(frames_file(number) for number in range(len(log.images)))]
        raise LogError(
            f"{' or '.join(files)} was changed: its hash is {found}, the header promises {written}",
            "Write the log again from its source, or copy it again.",
            path=log.folder,
        )
    return identity
