"""One log: every transition a row of one packed matrix, in memory or memory-mapped.

All columns of a transition lie next to each other in a row of 32-bit words, so that a chunk of
batches is one ``index_select`` whatever keys it holds. Real numbers are float32; integers and flags
are int32 whose bits are stored in the float32 matrix (only copied there, never computed with).
Image columns, which stay uint8, lie beside the matrix.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.errors import LogError

Key = str | tuple[str, ...]

OBSERVATION: Key = "observation"
ACTION: Key = "action"
NEXT_OBSERVATION: Key = ("next", "observation")
REWARD: Key = ("next", "reward")
TERMINATED: Key = ("next", "terminated")
TRUNCATED: Key = ("next", "truncated")
EPISODE, STEP, EPISODE_END = "episode", "step", "episode_end"

_FORMAT = "hindsight-log"
_VERSION = 1
_HEADER = "header.json"
_MATRIX = "matrix.bin"
_ROWS = "rows.bin"
_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


class Column(NamedTuple):
    """Where a key lies in a block of 32-bit words: first word, row shape, dtype handed out."""

    start: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def width(self) -> int:
        """Number of 32-bit words."""
        return math.prod(self.shape)


def key_name(key: Key) -> str:
    """Return the printed name of a key: ``("next", "reward")`` is ``next.reward``."""
    return key if isinstance(key, str) else ".".join(key)


def key_of(name: str) -> Key:
    """Return the key of a printed name, the inverse of :func:`key_name`."""
    parts = tuple(name.split("."))
    return parts[0] if len(parts) == 1 else parts


@dataclass(frozen=True)
class Block:
    """A packed matrix ``[N, W]`` float32 and the columns in it."""

    matrix: Tensor
    columns: dict[Key, Column]

    @classmethod
    def pack(cls, values: Mapping[Key, Tensor]) -> "Block":
        """Return the block of some columns ``[N, ...]``; dtypes become float32, int64 or bool."""
        columns: dict[Key, Column] = {}
        start = 0
        for key, value in values.items():
            columns[key] = Column(start, tuple(value.shape[1:]), _dtype_name(key, value))
            start += columns[key].width
        rows = len(next(iter(values.values())))
        matrix = torch.empty(rows, start, dtype=torch.float32)
        for key, value in values.items():
            column = columns[key]
            words = matrix[:, column.start : column.start + column.width]
            if column.dtype != "float32":
                words = words.view(torch.int32)
            words.copy_(value.reshape(rows, column.width))
        return cls(matrix, columns)

    def unpack(self, words: Tensor) -> dict[Key, Tensor]:
        """Return the columns of gathered rows ``[..., W]``; float32 ones are views."""
        return {key: self._read(words, column) for key, column in self.columns.items()}

    def column(self, key: Key) -> Tensor:
        """Return one whole column ``[N, ...]``; float32 ones are views."""
        return self._read(self.matrix, self.columns[key])

    @staticmethod
    def _read(words: Tensor, column: Column) -> Tensor:
        cut = words[..., column.start : column.start + column.width]
        if column.dtype != "float32":
            cut = cut.view(torch.int32).to(_DTYPES[column.dtype])
        return cut.reshape((*words.shape[:-1], *column.shape))


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


@dataclass(frozen=True)
class Source:
    """Rows ``[start, stop)`` of a log that came from one source, and how often they are drawn."""

    start: int
    stop: int
    weight: float
    name: str


@dataclass(frozen=True)
class Log:
    """Transitions in order, episodes one after another.

    Args:
        blocks: Packed columns; the first block holds what was read, later ones what relabelers add.
        images: uint8 columns ``[N, ...]`` that stay beside the packed matrix.
        info: Plain facts that JSON can hold: ``names``, ``units``, ``action`` bounds,
            ``control_rate_hz``, ``discrete_actions``, where the log came from.
        sources: Rows of each mixed source and its weight; one entry for a single source.
        rows: Row numbers ``[M]`` int64 that may be drawn, ``None`` for all.
        digest: What :meth:`hash` answered before the blocks were packed, ``None`` if they were not.
    """

    blocks: tuple[Block, ...]
    info: dict[str, Any]
    sources: tuple[Source, ...]
    images: dict[Key, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None
    digest: str | None = None

    @classmethod
    def from_columns(
        cls, columns: Mapping[Key, Tensor | np.ndarray], info: Mapping[str, Any] | None = None
    ) -> "Log":
        """Return a log of columns that are already checked.

        Args:
            columns: ``[N, ...]`` arrays by key. Needed: observation, action, next observation,
                reward, terminated, truncated and ``episode`` (int, rows of one episode adjacent).
                ``step`` and ``episode_end`` are computed here.
            info: Plain facts, see the class.

        Returns:
            A log in memory.

        Raises:
            LogError: A key is missing, lengths disagree, or the log is empty.
        """
        tensors = {key: torch.as_tensor(value) for key, value in columns.items()}
        _check_columns(tensors)
        episode = tensors.pop(EPISODE).to(torch.int64)
        tensors |= episode_columns(episode)
        images = {key: value for key, value in tensors.items() if value.dtype == torch.uint8}
        packed = {key: value for key, value in tensors.items() if key not in images}
        facts = dict(info or {})
        name = str(facts.get("source", "memory"))
        source = Source(0, len(episode), 1.0, name)
        return cls((Block.pack(packed),), facts, (source,), images)

    @classmethod
    def concatenate(cls, logs: Sequence["Log"], weights: Sequence[float]) -> "Log":
        """Return one log of several; rows of log ``i`` are drawn in proportion to ``weights[i]``.

        Args:
            logs: Logs with the same keys, shapes and dtypes. Facts are those of the first.
            weights: One positive number per log.

        Returns:
            A log in memory, episodes renumbered.

        Raises:
            LogError: Keys, shapes or dtypes differ, or a weight is not positive.
        """
        first = logs[0]
        parts: dict[Key, list[Tensor]] = {key: [] for key in first.keys()}
        sources: list[Source] = []
        rows: list[Tensor] = []
        start = episodes = 0
        for log, weight in zip(logs, weights, strict=True):
            name = log.sources[0].name
            _check_alike(first, log, name)
            if not weight > 0:
                problem = f"weight {weight} is not positive"
                raise LogError(problem, "Give a number above 0.", path=name)
            shifts: dict[Key, int] = {EPISODE: episodes, EPISODE_END: start}
            for key in parts:
                value = log.column(key)
                parts[key].append(value + shifts[key] if key in shifts else value)
            rows.append(log.drawable() + start)
            sources.append(Source(start, start + len(log), float(weight), name))
            start, episodes = start + len(log), episodes + log.episodes
        joined = {key: torch.cat(values) for key, values in parts.items()}
        images = {key: value for key, value in joined.items() if key in first.images}
        packed = {key: value for key, value in joined.items() if key not in images}
        info = first.info | {"source": [source.name for source in sources]}
        info.pop("memory_mapped", None)
        drawable = None if all(log.rows is None for log in logs) else torch.cat(rows)
        return cls((Block.pack(packed),), info, tuple(sources), images, drawable)

    def __len__(self) -> int:
        return len(self.blocks[0].matrix)

    def keys(self) -> list[Key]:
        """Return every key once."""
        packed = dict.fromkeys(key for block in self.blocks for key in block.columns)
        return [*packed, *self.images]

    def __contains__(self, key: Key) -> bool:
        return key in self.images or any(key in block.columns for block in self.blocks)

    def column(self, key: Key) -> Tensor:
        """Return a whole column ``[N, ...]``, a view where it is float32 or an image.

        Args:
            key: One of :meth:`keys`.

        Returns:
            float32, int64, bool or uint8.

        Raises:
            LogError: The log has no such key.
        """
        if key in self.images:
            return self.images[key]
        for block in reversed(self.blocks):
            if key in block.columns:
                return block.column(key)
        held = ", ".join(sorted(key_name(k) for k in self.keys()))
        raise LogError(
            f"the log has no '{key_name(key)}'", f"It holds: {held}.", path=self.sources[0].name
        )

    def shape(self, key: Key) -> tuple[int, ...]:
        """Return the shape of one row of a column."""
        return tuple(self.column(key).shape[1:])

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.column(EPISODE)[-1]) + 1

    def drawable(self) -> Tensor:
        """Return the row numbers ``[M]`` int64 that may be drawn."""
        return torch.arange(len(self)) if self.rows is None else self.rows

    def episode_ends(self) -> Tensor:
        """Return the row number of each episode's last step, ``[E]`` int64."""
        ends = self.column(EPISODE_END)
        return ends[ends == torch.arange(len(self))]

    def with_columns(self, columns: Mapping[Key, Tensor]) -> "Log":
        """Return this log with further columns ``[N, ...]``; a key that exists is replaced.

        The first block stays what was read: there a replaced column is hidden, not removed.

        Args:
            columns: One row per transition each; dtypes become float32, int64 or bool.

        Returns:
            A log that shares the memory of this one.

        Raises:
            LogError: A column does not have one row per transition.
        """
        if not columns:
            return self
        _check_lengths(columns, len(self), "the log")
        added = [
            Block(b.matrix, {k: c for k, c in b.columns.items() if k not in columns})
            for b in self.blocks[1:]
        ]
        kept = [block for block in added if block.columns]
        images = {key: image for key, image in self.images.items() if key not in columns}
        blocks = (self.blocks[0], *kept, Block.pack(columns))
        return replace(self, blocks=blocks, images=images)

    def with_rows(self, rows: Tensor | None) -> "Log":
        """Return this log with other drawable rows (``None`` keeps them)."""
        return self if rows is None else replace(self, rows=rows)

    def packed(self) -> "Log":
        """Return this log with all columns in one block (one copy; not for memory-mapped logs)."""
        if len(self.blocks) == 1 or self.info.get("memory_mapped"):
            return self
        return replace(self, blocks=(self._one_block(),), digest=self.hash())

    def _one_block(self) -> Block:
        if len(self.blocks) == 1:
            return self.blocks[0]
        return Block.pack({key: self.column(key) for key in self.keys() if key not in self.images})

    def gather(self, index: Tensor) -> TensorDict:
        """Return rows as a TensorDict of the index's shape; one gather per block.

        Args:
            index: int64 row numbers of any shape.

        Returns:
            TensorDict with every key of the log and ``index``.
        """
        flat = index.reshape(-1)
        values: dict[Key, Tensor] = {"index": index}
        for block in self.blocks:
            words = block.matrix.index_select(0, flat).view(*index.shape, block.matrix.shape[1])
            values |= block.unpack(words)
        for key, image in self.images.items():
            values[key] = image.index_select(0, flat).view((*index.shape, *image.shape[1:]))
        batch = TensorDict({}, batch_size=index.shape)
        for key, value in values.items():
            batch.set(key, value)
        return batch

    def hash(self) -> str:
        """Return the SHA-256 of the data that was read: header and first block, 16 hex digits.

        Columns that relabelers add are left out: they follow from the configuration.
        """
        if self.digest is not None:
            return self.digest
        digest = hashlib.sha256()
        block = self.blocks[0]
        header = {key_name(key): [list(c.shape), c.dtype] for key, c in block.columns.items()}
        header |= {key_name(key): [list(i.shape[1:]), "uint8"] for key, i in self.images.items()}
        digest.update(json.dumps(header, sort_keys=True).encode())
        step = max(1, (1 << 22) // max(1, block.matrix.shape[1]))
        for start in range(0, len(self), step):
            digest.update(block.matrix[start : start + step].numpy().tobytes())
        for image in self.images.values():
            digest.update(np.ascontiguousarray(image.numpy()).data)
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write the log as a folder: a JSON header, one raw matrix, drawable rows if chosen.

        The folder is written under a temporary name and renamed, so it is whole or absent.

        Args:
            path: Folder to make; its parents are made too.

        Raises:
            LogError: The folder exists, or the log holds images.
        """
        target = Path(path)
        if target.exists():
            raise LogError("already exists", "Choose another name or remove it.", path=target)
        if self.images:
            problem = "logs with images cannot be saved"
            raise LogError(problem, "Drop the image columns.", path=target)
        whole = self._one_block()
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "rows": len(self),
            "drawable": None if self.rows is None else len(self.rows),
            "columns": {key_name(k): list(c) for k, c in whole.columns.items()},
            "sources": [[s.start, s.stop, s.weight, s.name] for s in self.sources],
            "info": {k: v for k, v in self.info.items() if k != "memory_mapped"},
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            whole.matrix.contiguous().numpy().tofile(draft / _MATRIX)
            if self.rows is not None:
                self.rows.numpy().tofile(draft / _ROWS)
            (draft / _HEADER).write_text(json.dumps(header, indent=1))
            os.chmod(draft, 0o755)
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def load(cls, path: str | Path, *, memory_map: bool = True) -> "Log":
        """Return a saved log.

        Args:
            path: Folder written by :meth:`save`.
            memory_map: Leave the matrix on disk and read rows as they are drawn.

        Returns:
            The log.

        Raises:
            LogError: Not a saved log, an unknown version, a damaged header, or a cut matrix.
        """
        folder = Path(path)
        header = _read_header(folder)
        shape = header.rows, sum(column.width for column in header.columns.values())
        _check_size(folder / _MATRIX, 4 * math.prod(shape))
        if memory_map:
            # Shared and copy-on-write: torch wants a writable buffer, nothing here writes to it.
            raw: np.ndarray = np.memmap(folder / _MATRIX, np.float32, mode="c", shape=shape)
        else:
            raw = np.fromfile(folder / _MATRIX, np.float32).reshape(shape)
        block = Block(torch.from_numpy(raw), header.columns)
        info = header.info | ({"memory_mapped": True} if memory_map else {})
        log = cls((block,), info, header.sources)
        if header.drawable is None:
            return log
        _check_size(folder / _ROWS, 8 * header.drawable)
        return log.with_rows(torch.from_numpy(np.fromfile(folder / _ROWS, np.int64)))


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


def _check_columns(columns: Mapping[Key, Tensor]) -> None:
    needed = (OBSERVATION, ACTION, NEXT_OBSERVATION, REWARD, TERMINATED, TRUNCATED, EPISODE)
    for key in needed:
        if key not in columns:
            raise LogError("a log needs this column", "Add it.", column=key_name(key))
    _check_lengths(columns, len(columns[EPISODE]), "'episode'")
    if len(columns[EPISODE]) == 0:
        raise LogError("the log is empty", "Give at least one transition.")


def _check_lengths(columns: Mapping[Key, Tensor], rows: int, reference: str) -> None:
    for key, value in columns.items():
        if len(value) != rows:
            raise LogError(
                f"{len(value)} rows where {reference} has {rows}",
                "Make all columns the same length.",
                column=key_name(key),
            )


def _same_kind(first: Log, other: Log, key: Key) -> bool:
    one, two = first.column(key), other.column(key)
    return one.shape[1:] == two.shape[1:] and one.dtype == two.dtype


def _check_alike(first: Log, other: Log, name: str) -> None:
    for key in dict.fromkeys([*first.keys(), *other.keys()]):
        if key not in first or key not in other or not _same_kind(first, other, key):
            raise LogError(
                "this source does not have the shape and dtype of the first one",
                "Mixed sources need the same columns, shapes and dtypes: mend its column map.",
                path=name,
                column=key_name(key),
            )


class _Header(NamedTuple):
    """What the JSON header of a saved log says."""

    rows: int
    drawable: int | None
    columns: dict[Key, Column]
    sources: tuple[Source, ...]
    info: dict[str, Any]


def _check_size(file: Path, size: int) -> None:
    found = file.stat().st_size if file.exists() else 0
    if found != size or not file.exists():
        raise LogError(
            f"{file.name} has {found} bytes where the header promises {size}",
            "The log is cut: write it again.",
            path=file.parent,
        )


def _read_header(folder: Path) -> _Header:
    try:
        header = json.loads((folder / _HEADER).read_text())
    except (OSError, ValueError) as error:
        raise LogError(
            f"no readable {_HEADER}", "Give a folder written by Log.save.", path=folder
        ) from error
    known = isinstance(header, dict) and header.get("format") == _FORMAT
    if not known or header.get("version") != _VERSION:
        raise LogError(
            f"not a {_FORMAT} of version {_VERSION}", "Write it with this release.", path=folder
        )
    try:
        rows, drawable = int(header["rows"]), header["drawable"]
        if rows < 1:
            raise ValueError(f"{rows} rows")
        return _Header(
            rows=rows,
            drawable=None if drawable is None else int(drawable),
            columns=_read_columns(header["columns"]),
            sources=tuple(Source(*source) for source in header["sources"]),
            info=dict(header["info"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(
            f"{_HEADER} is damaged ({error})", "Write the log again.", path=folder
        ) from error


def _read_columns(entries: Mapping[str, Sequence[Any]]) -> dict[Key, Column]:
    columns: dict[Key, Column] = {}
    next_start = 0
    for name, (start, shape, dtype) in entries.items():
        if dtype not in _DTYPES:
            raise ValueError(f"unknown dtype {dtype!r} of column '{name}'")
        if start != next_start or not all(size >= 0 for size in shape):
            raise ValueError(f"column '{name}' does not follow the one before it")
        columns[key_of(name)] = Column(start, tuple(shape), dtype)
        next_start += columns[key_of(name)].width
    return columns
