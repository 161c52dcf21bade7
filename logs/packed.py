"""Packed columns: every row of a block is one run of 32-bit words.

All columns of a transition lie next to each other, so that a chunk of batches is one
``index_select`` whatever keys it holds. Real numbers are float32; integers and flags are int32
whose bits are stored in the float32 matrix (only copied there, never computed with).
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    EPISODE_END,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.rows import SPAN, StackedRows, in_file

DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


class Column(NamedTuple):
    """Where a key lies in a block of 32-bit words: first word, row shape, dtype handed out."""

    start: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def width(self) -> int:
        """Number of 32-bit words."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class PackedColumns:
    """A packed matrix ``[N, W]`` float32 and the columns in it."""

    matrix: Tensor | StackedRows
    columns: dict[Key, Column]

    @classmethod
    def pack(cls, values: Mapping[Key, Tensor], *, on_disk: bool = False) -> "PackedColumns":
        """Return the block of some columns ``[N, ...]``; dtypes become float32, int64 or bool.

        Args:
            values: One row per transition each.
            on_disk: Keep the matrix in a temporary file, see ``in_file``.

        Returns:
            The block.
        """
        columns: dict[Key, Column] = {}
        start = 0
        for key, value in values.items():
            columns[key] = Column(start, tuple(value.shape[1:]), _dtype_name(key, value))
            start += columns[key].width
        rows = len(next(iter(values.values())))
        shape = (rows, start)
        matrix = in_file(shape) if on_disk else torch.empty(shape, dtype=torch.float32)
        for key, value in values.items():
            column = columns[key]
            words = matrix[:, column.start : column.start + column.width]
            if column.dtype != "float32":
                words = words.view(torch.int32)
            words.copy_(value.reshape(rows, column.width))
        return cls(matrix, columns)

    def unpack(self, words: Tensor) -> dict[Key, Tensor]:
        """Return the columns of gathered rows ``[..., W]``; float32 ones are views."""
        found: dict[Key, Tensor] = {}
        for real, group in groupby(self.columns.items(), lambda item: item[1].dtype == "float32"):
            columns = list(group)
            start, stop = columns[0][1].start, columns[-1][1].start + columns[-1][1].width
            # Integers and flags that lie together are cast together: rows are passed once.
            run = words if real else words[..., start:stop].view(torch.int32).long()
            for key, column in columns:
                at = column.start if real else column.start - start
                cut = run[..., at : at + column.width].to(DTYPES[column.dtype])
                found[key] = cut.reshape((*words.shape[:-1], *column.shape))
        return found

    def column(self, key: Key, rows: slice = slice(None)) -> Tensor:
        """Return one column ``[N, ...]`` or some adjacent rows of it; float32 ones are views.

        Columns of several matrices are copies.
        """
        if isinstance(self.matrix, Tensor):
            return self._read(self.matrix[rows], self.columns[key])
        start, stop, _ = rows.indices(len(self.matrix))
        spans = [slice(at, min(at + SPAN, stop)) for at in range(start, stop, SPAN)]
        return torch.cat([self._read(self.matrix[s], self.columns[key]) for s in spans])

    def take(self, key: Key, rows: Tensor) -> Tensor:
        """Return rows ``[M, ...]`` of one column, by their numbers ``[M]`` int64."""
        if isinstance(self.matrix, Tensor):
            column = self.columns[key]
            words = self.matrix[:, column.start : column.start + column.width]
            return self._read(words.index_select(0, rows), column._replace(start=0))
        return self._read(self.matrix.index_select(0, rows), self.columns[key])

    @staticmethod
    def _read(words: Tensor, column: Column) -> Tensor:
        cut = words[..., column.start : column.start + column.width]
        if column.dtype != "float32":
            cut = cut.view(torch.int32).to(DTYPES[column.dtype])
        return cut.reshape((*words.shape[:-1], *column.shape))


def with_block(
    blocks: Sequence[PackedColumns], columns: Mapping[Key, Tensor], *, on_disk: bool
) -> tuple[PackedColumns, ...]:
    """Return blocks with one more; of the others the first alone keeps what is replaced.

    Args:
        blocks: Those of a log.
        columns: ``[N, ...]`` by key.
        on_disk: Keep the new matrix in a temporary file.

    Returns:
        The first block, what is left of the others, and the new one.
    """
    left = [
        PackedColumns(b.matrix, {k: c for k, c in b.columns.items() if k not in columns})
        for b in blocks[1:]
    ]
    kept = [block for block in left if block.columns]
    return (blocks[0], *kept, PackedColumns.pack(columns, on_disk=on_disk))


def _dtype_name(key: Key, value: Tensor) -> str:
    if value.dtype == torch.bool:
        return "bool"
    if value.dtype.is_floating_point:
        return "float32"
    wide = value.to(torch.int64)  # the wider unsigned types of torch know no maximum
    if wide.numel() and (int(wide.max()) >= 2**31 or int(wide.min()) < -(2**31)):
        raise LogError(
            "an integer does not fit 32 bits", "Renumber the column.", column=key_name(key)
        )
    return "int64"


def nested(values: Mapping[Key, Tensor]) -> dict[str, Any]:
    """Return nested dictionaries: of these a TensorDict is made in one go."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *path, name = (key,) if isinstance(key, str) else key
        inner = result
        for step in path:
            inner = inner.setdefault(step, {})
        inner[name] = value
    return result


def content_hash(block: PackedColumns, images: Mapping[Key, Tensor | StackedRows]) -> str:
    """Return the SHA-256 of columns: names, shapes, dtypes and every bit, 16 hex digits.

    Args:
        block: The packed columns.
        images: uint8 columns beside them.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.sha256()
    header = {key_name(key): [list(c.shape), c.dtype] for key, c in block.columns.items()}
    header |= {key_name(key): [list(i.shape[1:]), "uint8"] for key, i in images.items()}
    digest.update(json.dumps(header, sort_keys=True).encode())
    for rows in (block.matrix, *images.values()):
        for part in rows.split(rows_together(rows)):
            digest.update(np.ascontiguousarray(part.numpy()).data)
    return digest.hexdigest()[:16]


def rows_together(rows: Tensor | StackedRows) -> int:
    """Return how many rows of a matrix, or frames, are looked at together: some megabytes."""
    return max(1, (1 << 22) // max(1, math.prod(rows.shape[1:])))


def episode_columns(episode: Tensor) -> dict[Key, Tensor]:
    """Return ``episode`` (renumbered from 0), ``step`` and ``episode_end`` of adjacent episodes.

    Args:
        episode: ``[N]`` int64 episode id of each row; equal ids are adjacent.

    Returns:
        Three columns ``[N]`` int64.
    """
    _, number, length = torch.unique_consecutive(episode, return_inverse=True, return_counts=True)
    stop = length.cumsum(0)
    row = torch.arange(len(episode))
    return {EPISODE: number, STEP: row - (stop - length)[number], EPISODE_END: stop[number] - 1}


def next_key(key: Key) -> Key:
    """Return the key of the same thing one step later."""
    return ("next", key) if isinstance(key, str) else ("next", *key)


def observed(keys: Iterable[Key]) -> list[Key]:
    """Return the keys of what is observed: ``observation``, or its entries in their order.

    Args:
        keys: Keys of a log.

    Returns:
        ``["observation"]``, or keys ``("observation", NAME)``.

    Raises:
        LogError: There are both, or entries are nested, or a name holds a dot.
    """
    whole, found = False, []
    for key in keys:
        if key == OBSERVATION:
            whole = True
        elif isinstance(key, tuple) and key[0] == OBSERVATION:
            found.append(key)
    for key in found:
        if whole or len(key) != 2 or "." in key[1]:
            raise LogError(
                "an observation is one column, or entries by their name",
                "Give keys ('observation', NAME) alone, without dots; 'arm/q' for one of an arm.",
                column=key_name(key),
            )
    return list(found) or [OBSERVATION]


def check_needed(columns: Mapping[Key, Tensor]) -> None:
    """Raise an error for columns that make no log.

    Args:
        columns: ``[N, ...]`` by key.

    Raises:
        LogError: One is missing, or there are no rows.
    """
    needed = [*observed(columns), ACTION, REWARD, TERMINATED, TRUNCATED, EPISODE]
    for key in observed(columns):
        seen = columns.get(key)
        rows = len(columns.get(EPISODE, ()))
        # The frames of whole episodes hold the next ones too.
        if seen is None or seen.dtype != torch.uint8 or len(seen) <= rows:
            needed.append(next_key(key))
    for key in needed:
        if key not in columns:
            raise LogError("a log needs this column", "Add it.", column=key_name(key))
    if len(columns[EPISODE]) == 0:
        raise LogError("the log is empty", "Give at least one transition.")


def check_lengths(columns: Mapping[Key, Tensor], rows: int, reference: str) -> None:
    """Raise an error for columns of another length.

    Args:
        columns: ``[N, ...]`` by key.
        rows: N.
        reference: What has that length, for the message.

    Raises:
        LogError: A column is longer or shorter.
    """
    for key, value in columns.items():
        if len(value) != rows:
            raise LogError(
                f"{len(value)} rows where {reference} has {rows}",
                "Make all columns the same length.",
                column=key_name(key),
            )
