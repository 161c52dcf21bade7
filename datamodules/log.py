"""One log: every transition a row of one packed matrix, in memory or memory-mapped.

How rows are packed: :mod:`hindsight_rl.datamodules.block`. Image columns, which stay uint8, lie
beside the matrix. This file is longer than others because a log in memory, one in a file and one in
several files are one class to all who use it.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.datamodules.block import (
    ACTION,
    EPISODE,
    EPISODE_END,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
    Block,
    Key,
    check_lengths,
    check_needed,
    content_hash,
    episode_columns,
    key_name,
    nested,
)
from hindsight_rl.datamodules.errors import LogError
from hindsight_rl.datamodules.parts import SPAN, Parts
from hindsight_rl.datamodules.storage import (
    HEADER,
    MATRIX,
    ROWS,
    Source,
    check_columns,
    check_size,
    check_values,
    make_header,
    read_header,
    write_rows,
)

__all__ = [
    "ACTION",
    "EPISODE",
    "EPISODE_END",
    "NEXT_OBSERVATION",
    "OBSERVATION",
    "REWARD",
    "STEP",
    "TERMINATED",
    "TRUNCATED",
    "Key",
    "Log",
    "Source",
    "episode_columns",
    "key_name",
]


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
        promise: Of a loaded log: hash of its first block as the header states it, and the hash of
            the log that was saved.
        folder: Of a loaded log: where it lies.
        members: Of several memory-mapped logs read as one: the logs.
    """

    blocks: tuple[Block, ...]
    info: dict[str, Any]
    sources: tuple[Source, ...]
    images: dict[Key, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None
    digest: str | None = None
    promise: tuple[str, str] | None = None
    folder: str | None = None
    members: tuple["Log", ...] = ()

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
        check_needed(tensors)
        episode = tensors.pop(EPISODE).to(torch.int64)
        tensors |= episode_columns(episode)
        images = {key: value for key, value in tensors.items() if value.dtype == torch.uint8}
        packed = {key: value for key, value in tensors.items() if key not in images}
        facts = dict(info or {})
        source = Source(0, len(episode), 1.0, str(facts.get("source", "memory")))
        return cls((Block.pack(packed),), facts, (source,), images)

    @classmethod
    def concatenate(cls, logs: Sequence["Log"], weights: Sequence[float]) -> "Log":
        """Return one log of several; rows of log ``i`` are drawn in proportion to ``weights[i]``.

        Args:
            logs: Logs with the same keys, shapes and dtypes. Facts are those of the first.
            weights: One positive number per log.

        Returns:
            A log with episodes renumbered: memory-mapped where all the logs are (and lie alike),
            or else a copy in memory. Contents and hash are the same.

        Raises:
            LogError: Keys, shapes or dtypes differ, or a weight is not positive.
        """
        first = logs[0]
        sources: list[Source] = []
        shifts: list[dict[Key, int]] = []
        start = episodes = 0
        for log, weight in zip(logs, weights, strict=True):
            name = log.sources[0].name
            check_alike(first, log, name)
            if not weight > 0:
                raise LogError(
                    f"weight {weight} is not positive", "Give a number above 0.", path=name
                )
            shifts.append({EPISODE: episodes, EPISODE_END: start})
            sources.append(Source(start, start + len(log), float(weight), name))
            start, episodes = start + len(log), episodes + log.episodes
        info = first.info | {"source": [source.name for source in sources]}
        drawable = None
        if any(log.rows is not None for log in logs):
            rows = [log.drawable() + s.start for log, s in zip(logs, sources, strict=True)]
            drawable = torch.cat(rows)
        if _lie_alike(logs):
            columns = first.blocks[0].columns
            words = [{columns[key].start: by for key, by in shift.items()} for shift in shifts]
            block = Block(Parts([log.blocks[0].matrix for log in logs], words), columns)
            return cls((block,), info, tuple(sources), {}, drawable, members=tuple(logs))
        info.pop("memory_mapped", None)
        joined: dict[Key, Tensor] = {}
        for key in first.keys():
            values = [log.column(key) for log in logs]
            if key in (EPISODE, EPISODE_END):
                values = [v + shift[key] for v, shift in zip(values, shifts, strict=True)]
            joined[key] = torch.cat(values)
        images = {key: value for key, value in joined.items() if key in first.images}
        packed = {key: value for key, value in joined.items() if key not in images}
        return cls((Block.pack(packed),), info, tuple(sources), images, drawable)

    def __len__(self) -> int:
        return len(self.blocks[0].matrix)

    def keys(self) -> list[Key]:
        """Return every key once."""
        packed = dict.fromkeys(key for block in self.blocks for key in block.columns)
        return [*packed, *self.images]

    def __contains__(self, key: Key) -> bool:
        return key in self.images or any(key in block.columns for block in self.blocks)

    def column(self, key: Key, rows: slice = slice(None)) -> Tensor:
        """Return a column ``[N, ...]``, a view where it is float32 or an image, in one matrix.

        Args:
            key: One of :meth:`keys`.
            rows: Adjacent rows, all of them unless said.

        Returns:
            float32, int64, bool or uint8.

        Raises:
            LogError: The log has no such key.
        """
        if key in self.images:
            return self.images[key][rows]
        for block in reversed(self.blocks):
            if key in block.columns:
                return block.column(key, rows)
        held = ", ".join(sorted(key_name(k) for k in self.keys()))
        raise LogError(
            f"the log has no '{key_name(key)}'", f"It holds: {held}.", path=self.sources[0].name
        )

    def shape(self, key: Key) -> tuple[int, ...]:
        """Return the shape of one row of a column."""
        return tuple(self.column(key, slice(1)).shape[1:])

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.column(EPISODE, slice(len(self) - 1, None))) + 1

    def spans(self) -> list[slice]:
        """Return slices of adjacent rows that cover the log, each small enough for memory."""
        return [slice(at, min(at + SPAN, len(self))) for at in range(0, len(self), SPAN)]

    def drawable(self) -> Tensor:
        """Return the row numbers ``[M]`` int64 that may be drawn."""
        return torch.arange(len(self)) if self.rows is None else self.rows

    def drawn(self, key: Key) -> Iterator[Tensor]:
        """Yield the drawable rows of a column, ``[M, ...]`` at a time."""
        if self.rows is None:
            yield from (self.column(key, rows) for rows in self.spans())
            return
        block = next((b for b in reversed(self.blocks) if key in b.columns), None)
        for rows in self.rows.split(SPAN):
            yield self.column(key)[rows] if block is None else block.take(key, rows)

    def episode_ends(self) -> Tensor:
        """Return the row number of each episode's last step, ``[E]`` int64."""
        ends = self.column(EPISODE_END)
        return ends[ends == torch.arange(len(self))]

    def with_columns(self, columns: Mapping[Key, Tensor]) -> "Log":
        """Return this log with further columns ``[N, ...]``; a key that exists is replaced.

        The first block stays what was read: there a replaced column is hidden, not removed. Columns
        of a memory-mapped log are kept in a temporary file.

        Args:
            columns: One row per transition each; dtypes become float32, int64 or bool.

        Returns:
            A log that shares the memory of this one.

        Raises:
            LogError: A column does not have one row per transition.
        """
        if not columns:
            return self
        check_lengths(columns, len(self), "the log")
        added = [
            Block(b.matrix, {k: c for k, c in b.columns.items() if k not in columns})
            for b in self.blocks[1:]
        ]
        kept = [block for block in added if block.columns]
        images = {key: image for key, image in self.images.items() if key not in columns}
        on_disk = bool(self.info.get("memory_mapped"))
        blocks = (self.blocks[0], *kept, Block.pack(columns, on_disk=on_disk))
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
        return TensorDict(nested(values), batch_size=index.shape)

    def hash(self) -> str:
        """Return the SHA-256 of the data that was read: header and first block, 16 hex digits.

        Columns that relabelers add are left out: they follow from the configuration. A log that was
        saved and loaded has the hash of the log that was saved.

        Returns:
            Hexadecimal digits.

        Raises:
            LogError: The bytes of a saved log are not those that were written.
        """
        if self.digest is not None:
            return self.digest
        for member in self.members:
            member.hash()
        found = content_hash(self.blocks[0], self.images)
        if self.promise is None:
            return found
        written, identity = self.promise
        if found != written:
            raise LogError(
                f"{MATRIX} was changed: its hash is {found}, the header promises {written}",
                "Write the log again from its source, or copy it again.",
                path=self.folder,
            )
        return identity

    def save(self, path: str | Path) -> None:
        """Write the log as a folder: a JSON header, one raw matrix, drawable rows if chosen.

        The folder is written under a temporary name and renamed, so it is whole or absent.

        Args:
            path: Folder to make; its parents are made too.

        Raises:
            LogError: The folder exists, or the log holds images.
        """
        if (target := Path(path)).exists():
            raise LogError("already exists", "Choose another name or remove it.", path=target)
        if self.images:
            problem, mend = "logs with images cannot be saved", "Drop the image columns."
            raise LogError(problem, mend, path=target)
        whole = self._one_block()
        header = make_header(
            whole,
            self.rows,
            [content_hash(whole, {}), self.hash()],
            [[s.start, s.stop, s.weight, s.name] for s in self.sources],
            self.info,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            write_rows(draft / MATRIX, whole.matrix)
            if self.rows is not None:
                self.rows.numpy().tofile(draft / ROWS)
            (draft / HEADER).write_text(json.dumps(header, indent=1))
            os.chmod(draft, 0o755)
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def load(cls, path: str | Path, *, memory_map: bool = True) -> "Log":
        """Return a saved log.

        Header, sizes and values are checked in one sweep (measured: about 1.2 GB/s). The hash (0.7
        GB/s) of a log in memory is compared at once, that of a memory-mapped one when it is first
        asked for, which training does before its first update.

        Args:
            path: Folder written by :meth:`save`.
            memory_map: Leave the matrix on disk and read rows as they are drawn.

        Returns:
            The log.

        Raises:
            LogError: Not a saved log, an unknown version, a damaged header, a cut or changed
                matrix, or values no log may hold; see ``check_values``.
        """
        folder = Path(path)
        header = read_header(folder)
        check_columns(header, folder)
        shape = header.rows, sum(column.width for column in header.columns.values())
        check_size(folder / MATRIX, 4 * math.prod(shape), longer=True)
        if memory_map:
            # Shared and copy-on-write: torch wants a writable buffer, nothing here writes to it.
            raw: np.ndarray = np.memmap(folder / MATRIX, np.float32, mode="c", shape=shape)
        else:
            raw = np.fromfile(folder / MATRIX, np.float32, math.prod(shape)).reshape(shape)
        block = Block(torch.from_numpy(raw), header.columns)
        rows: Tensor | None = None
        if header.drawable is not None:
            check_size(folder / ROWS, 8 * header.drawable)
            if memory_map and header.drawable:
                chosen: np.ndarray = np.memmap(folder / ROWS, np.int64, mode="c")
            else:
                chosen = np.fromfile(folder / ROWS, np.int64)
            rows = torch.from_numpy(chosen)
        check_values(block, rows, header.info, folder)
        info = header.info | ({"memory_mapped": True} if memory_map else {})
        log = cls((block,), info, header.sources, {}, rows, None, header.hash, str(folder))
        if not memory_map:
            log.hash()
        return log


def _lie_alike(logs: Sequence[Log]) -> bool:
    """Return whether all logs are memory-mapped with the same columns at the same places."""
    columns = list(logs[0].blocks[0].columns.items())
    return all(
        bool(log.info.get("memory_mapped"))
        and len(log.blocks) == 1
        and list(log.blocks[0].columns.items()) == columns
        for log in logs
    )


def _same_kind(first: Log, other: Log, key: Key) -> bool:
    same_dtype = first.column(key, slice(1)).dtype == other.column(key, slice(1)).dtype
    return same_dtype and first.shape(key) == other.shape(key)


def check_alike(first: Log, other: Log, name: str) -> None:
    """Refuse a log whose columns differ from those of another.

    Args:
        first: The log it must go with.
        other: The log.
        name: Its name, for messages.

    Raises:
        LogError: Keys, shapes or dtypes differ.
    """
    for key in dict.fromkeys([*first.keys(), *other.keys()]):
        if key not in first or key not in other or not _same_kind(first, other, key):
            raise LogError(
                "this source does not have the shape and dtype of the first one",
                "Mixed sources need the same columns, shapes and dtypes: mend its column map.",
                path=name,
                column=key_name(key),
            )
