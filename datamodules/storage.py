"""What lies in the folder of a saved log, and what is refused when it is read back."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.datamodules.block import (
    ACTION,
    DTYPES,
    EPISODE,
    EPISODE_END,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    Block,
    Column,
    Key,
    key_name,
    key_of,
)
from hindsight_rl.datamodules.checks import ROUNDING
from hindsight_rl.datamodules.errors import LogError
from hindsight_rl.datamodules.parts import SPAN, Parts

FORMAT = "hindsight-log"
VERSION = 1
HEADER = "header.json"
MATRIX = "matrix.bin"
ROWS = "rows.bin"

_SWEEP = 1 << 20  # words looked at together: they stay in the cache
_NUMBER, _COUNT, _FLAG = ("float32", "int64"), ("int64",), ("bool", "int64")
_NEEDED: dict[Key, tuple[str, ...]] = {
    OBSERVATION: _NUMBER,
    ACTION: _NUMBER,
    NEXT_OBSERVATION: _NUMBER,
    REWARD: _NUMBER,
    TERMINATED: _FLAG,
    TRUNCATED: _FLAG,
    EPISODE: _COUNT,
    STEP: _COUNT,
    EPISODE_END: _COUNT,
}
_SCALARS = (REWARD, TERMINATED, TRUNCATED, EPISODE, STEP, EPISODE_END)


@dataclass(frozen=True)
class Source:
    """Rows ``[start, stop)`` of a log that came from one source, and how often they are drawn."""

    start: int
    stop: int
    weight: float
    name: str


class Header(NamedTuple):
    """What the JSON header of a saved log says."""

    rows: int
    drawable: int | None
    columns: dict[Key, Column]
    sources: tuple[Source, ...]
    info: dict[str, Any]
    hash: tuple[str, str] | None


def make_header(
    block: Block,
    rows: Tensor | None,
    hashes: Sequence[str],
    sources: Sequence[Sequence[Any]],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the header of a log.

    Args:
        block: All its columns.
        rows: Drawable rows, ``None`` for all.
        hashes: Of the bytes that are written, and of the log.
        sources: First row, last row and one, weight and name of each source.
        info: Facts of the log.

    Returns:
        What JSON can hold.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "rows": len(block.matrix),
        "drawable": None if rows is None else len(rows),
        "columns": {key_name(k): list(c) for k, c in block.columns.items()},
        "hash": list(hashes),
        "sources": [list(source) for source in sources],
        "info": {k: v for k, v in info.items() if k != "memory_mapped"},
    }


def check_size(file: Path, size: int, *, longer: bool = False) -> None:
    """Refuse a file of another size.

    Args:
        file: File in the folder of a log.
        size: Bytes it must have.
        longer: Whether it may have more: rows of an append that did not end.

    Raises:
        LogError: It is missing, cut or longer.
    """
    found = file.stat().st_size if file.exists() else 0
    if found < size or (found > size and not longer) or not file.exists():
        raise LogError(
            f"{file.name} has {found} bytes where the header promises {size}",
            "The log is cut: write it again.",
            path=file.parent,
        )


def write_rows(file: Path, matrix: Tensor | Parts) -> None:
    """Write rows at the end of a file (made where absent), a few megabytes at a time.

    Args:
        file: Where to write.
        matrix: ``[N, W]`` 32-bit words.
    """
    with file.open("ab") as out:
        for words in matrix.split(SPAN):
            out.write(words.contiguous().numpy().data)
        out.flush()
        os.fsync(out.fileno())


def read_header(folder: Path) -> Header:
    """Return the header of a saved log.

    Args:
        folder: Folder of the log.

    Returns:
        What it says.

    Raises:
        LogError: There is none, it is of another version, or it is damaged.
    """
    try:
        header = json.loads((folder / HEADER).read_text())
    except (OSError, ValueError) as error:
        raise LogError(
            f"no readable {HEADER}", "Give a folder written by Log.save.", path=folder
        ) from error
    known = isinstance(header, dict) and header.get("format") == FORMAT
    if not known or header.get("version") != VERSION:
        raise LogError(
            f"not a {FORMAT} of version {VERSION}", "Write it with this release.", path=folder
        )
    try:
        rows, drawable = int(header["rows"]), header["drawable"]
        if rows < 1:
            raise ValueError(f"{rows} rows")
        return Header(
            rows=rows,
            drawable=None if drawable is None else int(drawable),
            columns=_read_columns(header["columns"]),
            sources=tuple(Source(*source) for source in header["sources"]),
            info=dict(header["info"]),
            hash=_read_hash(header.get("hash")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(
            f"{HEADER} is damaged ({error})", "Write the log again.", path=folder
        ) from error


def _read_hash(entry: Any) -> tuple[str, str] | None:
    if entry is None:  # logs written before hashes were kept
        return None
    written, identity = entry
    if not isinstance(written, str) or not isinstance(identity, str):
        raise ValueError("'hash' is not two strings")
    return written, identity


def _read_columns(entries: Mapping[str, Sequence[Any]]) -> dict[Key, Column]:
    columns: dict[Key, Column] = {}
    next_start = 0
    for name, (start, shape, dtype) in entries.items():
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r} of column '{name}'")
        if start != next_start or not all(size >= 0 for size in shape):
            raise ValueError(f"column '{name}' does not follow the one before it")
        columns[key_of(name)] = Column(start, tuple(shape), dtype)
        next_start += columns[key_of(name)].width
    return columns


def check_columns(header: Header, folder: Path) -> None:
    """Refuse a header whose columns or sources are not those of a log.

    Args:
        header: The header.
        folder: Where it lies, for messages.

    Raises:
        LogError: A needed column is missing or of another kind, or sources leave rows out.
    """
    mend = "Write the log again."
    for key, kinds in _NEEDED.items():
        column = header.columns.get(key)
        if column is None or column.dtype not in kinds:
            found = "missing" if column is None else column.dtype
            problem = f"{HEADER} is damaged (column is {found}, a log needs {' or '.join(kinds)})"
            raise LogError(problem, mend, path=folder, column=key_name(key))
        if key in _SCALARS and column.shape != ():
            problem = f"{HEADER} is damaged (one number per row is needed, not {column.shape})"
            raise LogError(problem, mend, path=folder, column=key_name(key))
    start = 0
    for source in header.sources:
        if source.start != start or source.stop < start or not 0 < source.weight < math.inf:
            raise LogError(f"{HEADER} is damaged (source {source})", mend, path=folder)
        start = source.stop
    if start != header.rows:
        problem = f"{HEADER} is damaged (sources end at row {start} of {header.rows})"
        raise LogError(problem, mend, path=folder)


def check_values(block: Block, rows: Tensor | None, info: Mapping[str, Any], folder: Path) -> None:
    """Refuse values that no reader lets into a log; one sweep, a few megabytes at a time.

    Args:
        block: All columns.
        rows: Drawable rows, ``None`` for all.
        info: Facts of the log, ``action`` bounds among them.
        folder: Where it lies, for messages.

    Raises:
        LogError: NaN or infinity, an action beyond its bounds, episodes that do not fit together,
            or drawable rows the log does not have.
    """
    count = len(block.matrix)
    if rows is not None and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        problem = f"drawable rows from {int(rows.min())} to {int(rows.max())} of a log of {count}"
        raise LogError(f"{ROWS} names {problem}", "Write the log again.", path=folder)
    bounds = _bounds(block, info, folder)
    step = max(1, _SWEEP // max(1, block.matrix.shape[1]))
    for start in range(0, count, step):
        part = Block(block.matrix[start : start + step], block.columns)
        _check_finite(part, start, folder)
        _check_bounds(part, start, bounds, folder)
        # One row more on the left: whether an episode goes on is a matter of two rows.
        left = max(0, start - 1)
        _check_episodes(
            Block(block.matrix[left : start + step], block.columns), left, count, folder
        )


def _check_finite(part: Block, start: int, folder: Path) -> None:
    for key, column in part.columns.items():
        if column.dtype != "float32" or not column.width:
            continue
        value = part.column(key).reshape(len(part.matrix), -1)
        # A sum is finite if all are, unless it overflows; it costs a tenth of looking at each.
        if bool(torch.isfinite(value.sum())):
            continue
        bad = ~torch.isfinite(value).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            problem = (
                f"{value[row][~torch.isfinite(value[row])][0].item()} is no number to learn from"
            )
            mend = "Mend the source and write the log again."
            raise LogError(problem, mend, path=folder, column=key_name(key), row=start + row)


def _bounds(block: Block, info: Mapping[str, Any], folder: Path) -> list[tuple[str, Tensor]]:
    """Return the stated bounds of actions, with room for rounding to float32."""
    column, given = block.columns[ACTION], info.get("action") or {}
    if column.dtype != "float32":
        return []
    found: list[tuple[str, Tensor]] = []
    for side, sign in (("low", -1.0), ("high", 1.0)):
        try:
            stated = given.get(side)
            if stated is None:
                continue
            bound = torch.tensor(stated, dtype=torch.float32).expand(column.shape)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            problem = f"{HEADER} is damaged (action bounds {given!r})"
            raise LogError(problem, "Write the log again.", path=folder) from error
        found.append((side, bound + sign * ROUNDING * (1 + bound.abs())))
    return found


def _check_bounds(
    part: Block, start: int, bounds: Sequence[tuple[str, Tensor]], folder: Path
) -> None:
    for side, bound in bounds:
        action = part.column(ACTION)
        outside = action < bound if side == "low" else action > bound
        if bool(outside.any()):
            where = outside.nonzero()[0].tolist()
            problem = f"{action[tuple(where)].item():g} lies beyond the '{side}' bound of the log"
            mend = "Correct the bounds or the actions at the source and write the log again."
            raise LogError(
                problem, mend, path=folder, column=key_name(ACTION), row=start + where[0]
            )


def _check_episodes(part: Block, start: int, count: int, folder: Path) -> None:
    """Refuse episode, step and episode_end that contradict each other; ``start`` is row 0's."""
    episode, step, end = (part.column(key) for key in (EPISODE, STEP, EPISODE_END))
    row = torch.arange(start, start + len(step))
    good = (step >= 0) & (end >= row) & (end < count) & ((row < count - 1) | (end == row))
    if start == 0:
        good[0] &= (episode[0] == 0) & (step[0] == 0)
    on = episode[1:] == episode[:-1]
    going = (step[1:] == step[:-1] + 1) & (end[1:] == end[:-1])
    fresh = (episode[1:] == episode[:-1] + 1) & (step[1:] == 0) & (end[:-1] == row[:-1])
    good[1:] &= torch.where(on, going, fresh)
    if not bool(good.all()):
        bad = int((~good).nonzero()[0])
        problem = (
            f"episode {int(episode[bad])}, step {int(step[bad])} and episode_end {int(end[bad])} "
            f"do not fit a log of {count} rows or the row before"
        )
        raise LogError(problem, "Write the log again.", path=folder, row=start + bad)
