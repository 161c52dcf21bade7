"""A log relabeled in shards, by several processes, with the bits of one.

A shard is a run of rows, cut where :func:`relabeled_rows` begins a new block: every block is what
it is in one process. The relabelers are prepared once, here, over the whole log; what they found is
laid into files, which the processes map. Finished shards wait in a folder until all are there, so
that an interrupted command goes on from them.
"""

import copy
import functools
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.datamodules.relabeled_rows import relabeled_rows, together
from hindsight_rl.files import write_whole
from hindsight_rl.keys import Key
from hindsight_rl.logs.folder import read_file, write_rows
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import Column, PackedColumns
from hindsight_rl.relabel.chain import parts_of
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.shards import divided, keep_plan
from hindsight_rl.workers import Workers, each

_LOG, _LAID = "log", "laid"
_SMALL = 1 << 16  # bytes of a tensor that is sent with its relabeler
_COPIED = 1 << 23  # bytes copied together


class Laid(NamedTuple):
    """A tensor in a file, or a small one as an array."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | None


class Recipe(NamedTuple):
    """What a process needs to relabel rows.

    Attributes:
        log: Folder of the log as it was read.
        blocks: Columns of the relabelers.
        rows: That may be drawn.
        images: Keys of images that are left.
        bound: The relabelers, their tensors laid.
    """

    log: str
    blocks: tuple[tuple[Laid, dict[Key, Column]], ...]
    rows: Laid | None
    images: tuple[Key, ...]
    bound: Relabeler


class Shard(NamedTuple):
    """Rows to relabel, and the file they go to."""

    recipe: Recipe
    start: int
    stop: int
    file: str


def write_shards(
    file: Path,
    log: Log,
    ready: Log,
    bound: Relabeler,
    *,
    workers: Workers,
    count: int,
    folder: Path,
    plan: Mapping[str, Any] | None,
) -> dict[Key, Column]:
    """Write all rows, relabeled in several processes, and return their columns.

    Args:
        file: Of the matrix.
        log: What was read.
        ready: The same, with the columns and rows of the relabelers.
        bound: The relabelers.
        workers: Where shards are relabeled.
        count: How many shards.
        folder: Where shards wait; kept, for the caller to remove.
        plan: What is done; finished shards of the same are used. ``None``: all are done anew.

    Returns:
        The columns.

    Raises:
        ValueError: The folder holds shards of something else, a relabeler cannot be sent to
            another process, or a shard cannot be made.
        WorkerError: A process ended without an answer.
    """
    first = range(min(together(log), len(log)))
    columns = PackedColumns.pack(next(relabeled_rows(log, ready, bound, first))).columns
    width = sum(column.width for column in columns.values())
    parts = divided(len(log), count, block=together(log))
    keep_plan(folder, plan, parts)
    recipe = _recipe(folder, log, ready, bound)
    shards = [
        Shard(recipe, rows.start, rows.stop, str(folder / f"{number}.bin"))
        for number, rows in enumerate(parts)
    ]
    left = [shard for shard in shards if not _is_whole(shard, width)]

    def name(number: int) -> str:
        shard = left[number]
        place = shards.index(shard) + 1
        return f"shard {place} of {len(shards)} (rows {shard.start:,} to {shard.stop - 1:,})"

    for _ in each(workers, write_shard, left, name=name):
        pass
    with file.open("ab") as out:
        for shard in shards:
            with Path(shard.file).open("rb") as part:
                shutil.copyfileobj(part, out, _COPIED)
        out.flush()
        os.fsync(out.fileno())
    return columns


def write_shard(shard: Shard) -> None:
    """Relabel the rows of a shard and write them; the file is whole or absent.

    Args:
        shard: Which rows, and how.
    """
    torch.set_num_threads(1)
    recipe = shard.recipe
    log = _loaded(recipe.log)
    blocks = [PackedColumns(_taken(laid), columns) for laid, columns in recipe.blocks]
    rows = None if recipe.rows is None else _taken(recipe.rows)
    images = {key: log.images[key] for key in recipe.images}
    ready = replace(log, blocks=(*log.blocks, *blocks), rows=rows, images=images)
    bound = _changed(
        recipe.bound, lambda value: _taken(value) if isinstance(value, Laid) else value
    )

    def write(out: BinaryIO) -> None:
        for values in relabeled_rows(log, ready, bound, range(shard.start, shard.stop)):
            out.write(PackedColumns.pack(values).matrix[:].numpy().data)

    write_whole(Path(shard.file), write)


@functools.lru_cache(maxsize=1)  # the values of a log are checked once a process
def _loaded(folder: str) -> Log:
    return Log.load(folder)


def _is_whole(shard: Shard, width: int) -> bool:
    path, size = Path(shard.file), 4 * width * (shard.stop - shard.start)
    return path.exists() and path.stat().st_size == size


def _recipe(folder: Path, log: Log, ready: Log, bound: Relabeler) -> Recipe:
    """Return what processes need, with large tensors in files."""
    shutil.rmtree(folder / _LAID, ignore_errors=True)
    (folder / _LAID).mkdir(parents=True)
    place = log.folder
    if place is None or len(log.blocks) > 1 or log.members:
        place = str(folder / _LOG)
        if not Path(place).exists():
            log.save(place)
    numbers = iter(range(1 << 30))

    def lay(value: Tensor) -> Laid:
        return _lay(value, folder / _LAID / f"{next(numbers)}.bin")

    blocks = [(lay(block.matrix[:]), dict(block.columns)) for block in ready.blocks[1:]]
    sent = _changed(_acting(bound), lay)
    for part in parts_of(sent):
        _check_sent(part)
    rows = None if ready.rows is None else lay(ready.rows)
    return Recipe(str(Path(place).absolute()), tuple(blocks), rows, tuple(ready.images), sent)


def _acting(part: Relabeler) -> Relabeler:
    """Return what a relabeler does with rows, without what lies in the columns of the log."""
    idle = (Relabeler.__call__, Relabeler.companions)
    if (type(part).__call__, type(part).companions) == idle:
        found = Relabeler()
    else:
        found = copy.copy(part)
        for name, value in vars(part).items():
            if isinstance(value, list) and all(isinstance(inner, Relabeler) for inner in value):
                setattr(found, name, [_acting(inner) for inner in value])
    # Their keys say what is rewritten; the values are in the log.
    found.columns = {key: torch.empty(0) for key in part.columns}
    found.rows = found.labelled = None
    return found


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a relabeler, or what one holds, with its tensors changed."""
    if isinstance(value, (Tensor, Laid)):
        return change(value)
    if isinstance(value, dict):
        return {key: _changed(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_changed(inner, change) for inner in value]
    if isinstance(value, Relabeler):
        other = copy.copy(value)
        vars(other).update({k: _changed(inner, change) for k, inner in vars(value).items()})
        return other
    return value


def _lay(value: Tensor, file: Path) -> Laid:
    held = value.detach().cpu()
    dtype, shape = str(held.numpy().dtype), tuple(held.shape)
    if held.numel() * held.element_size() <= _SMALL:
        return Laid("", dtype, shape, held.numpy())
    write_rows(file.absolute(), held)
    return Laid(str(file.absolute()), dtype, shape, None)


def _taken(laid: Laid) -> Tensor:
    if laid.values is not None:
        return torch.from_numpy(np.array(laid.values))
    return read_file(Path(laid.file), np.dtype(laid.dtype), laid.shape, True)


def _check_sent(part: Relabeler) -> None:
    """Raise on a relabeler that other processes cannot be given."""
    try:
        ForkingPickler.dumps(part)
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{type(part).__name__} cannot be sent to other processes ({why}): relabel in one, "
            "without shards"
        ) from error
