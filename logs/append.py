"""Appending to saved logs: the way to write a log that is larger than memory."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hindsight_rl.files import write_text
from hindsight_rl.keys import EPISODE, EPISODE_END
from hindsight_rl.logs.common_facts import SourceFacts, joint_facts
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import (
    HEADER,
    MATRIX,
    frames_file,
    make_header,
    read_file,
    write_rows,
)
from hindsight_rl.logs.joining import check_alike
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import PackedColumns, content_hash
from hindsight_rl.logs.rows import StackedRows
from hindsight_rl.logs.saved_checks import check_values


def append(path: str | Path, logs: Log | Iterable[Log]) -> None:
    """Add episodes at the end of a saved log, one log at a time in memory.

    Rows are written behind those the header speaks of, and the header is replaced last: until
    then, and after a crash, the log is what it was. One writer at a time. Who has the log
    mapped meanwhile keeps the rows it had. The hash is that of the whole log, as if it had been
    saved in one piece.

    Args:
        path: Folder written by :meth:`save`, of one source, all rows drawable.
        logs: A log or several, with the same columns.

    Raises:
        LogError: The folder holds no such log, its bytes are not those that were written, or
            columns or facts differ.
    """
    folder = Path(path)
    old = Log.load(folder)
    old.hash()
    if old.rows is not None or len(old.sources) > 1:
        problem = "a log of several sources or of chosen rows takes no further ones"
        raise LogError(problem, "Append before mixing and filtering.", path=folder)
    columns, width = old.blocks[0].columns, old.blocks[0].matrix.shape[1]
    count, episodes, facts = len(old), old.episodes, SourceFacts(str(folder), old.info)
    shapes = {key: frames.pixels.shape for key, frames in old.images.items()}
    os.truncate(folder / MATRIX, 4 * count * width)  # what an append left that did not end
    for number, shape in enumerate(shapes.values()):
        os.truncate(folder / frames_file(number), math.prod(shape))
    for log in [logs] if isinstance(logs, Log) else logs:
        check_alike(old, log, log.sources[0].name)
        facts = SourceFacts(
            str(folder), joint_facts([facts, SourceFacts(log.sources[0].name, log.info)])
        )
        block = PackedColumns.pack({key: log.column(key) for key in columns})
        shift = {columns[EPISODE].start: episodes, columns[EPISODE_END].start: count}
        write_rows(folder / MATRIX, StackedRows([block.matrix], [shift]))
        for number, (key, shape) in enumerate(shapes.items()):
            pixels = log.images[key].pixels
            write_rows(folder / frames_file(number), pixels)
            shapes[key] = (shape[0] + len(pixels), *shape[1:])
        count, episodes = count + len(log), episodes + log.episodes
    block = PackedColumns(read_file(folder / MATRIX, np.float32, (count, width), True), columns)
    images = {
        key: read_file(folder / frames_file(number), np.uint8, shape, True)
        for number, (key, shape) in enumerate(shapes.items())
    }
    check_values(block, None, facts.info, folder)
    found = content_hash(block, images)
    source = old.sources[0]
    sources = [[0, count, source.weight, source.name]]
    header = make_header(block, None, [found, found], sources, facts.info, images)
    write_text(folder / HEADER, json.dumps(header, indent=1))
