"""One log: every transition a row of one packed matrix, in memory or memory-mapped.

How rows are packed: :mod:`hindsight_rl.datamodules.block`. Image columns, which stay uint8, lie
beside the matrix.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
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
)
from hindsight_rl.datamodules.errors import LogError
from hindsight_rl.datamodules.storage import (
    FORMAT,
    HEADER,
    MATRIX,
    ROWS,
    VERSION,
    Source,
    check_columns,
    check_size,
    check_values,
    read_header,
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
    """

    blocks: tuple[Block, ...]
    info: dict[str, Any]
    sources: tuple[Source, ...]
    images: dict[Key, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None
    digest: str | None = None
    promise: tuple[str, str] | None = None
    folder: str | None = None

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
                raise LogError(
                    f"weight {weight} is not positive", "Give a number above 0.", path=name
                )
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
        check_lengths(columns, len(self), "the log")
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

        Columns that relabelers add are left out: they follow from the configuration. A log that was
        saved and loaded has the hash of the log that was saved.

        Returns:
            Hexadecimal digits.

        Raises:
            LogError: The bytes of a saved log are not those that were written.
        """
        if self.digest is not None:
            return self.digest
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
        header = {
            "format": FORMAT,
            "version": VERSION,
            "rows": len(self),
            "drawable": None if self.rows is None else len(self.rows),
            "columns": {key_name(k): list(c) for k, c in whole.columns.items()},
            "hash": [content_hash(whole, {}), self.hash()],
            "sources": [[s.start, s.stop, s.weight, s.name] for s in self.sources],
            "info": {k: v for k, v in self.info.items() if k != "memory_mapped"},
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            whole.matrix.contiguous().numpy().tofile(draft / MATRIX)
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
        check_size(folder / MATRIX, 4 * math.prod(shape))
        if memory_map:
            # Shared and copy-on-write: torch wants a writable buffer, nothing here writes to it.
            raw: np.ndarray = np.memmap(folder / MATRIX, np.float32, mode="c", shape=shape)
        else:
            raw = np.fromfile(folder / MATRIX, np.float32).reshape(shape)
        block = Block(torch.from_numpy(raw), header.columns)
        rows: Tensor | None = None
        if header.drawable is not None:
            check_size(folder / ROWS, 8 * header.drawable)
            rows = torch.from_numpy(np.fromfile(folder / ROWS, np.int64))
        check_values(block, rows, header.info, folder)
        info = header.info | ({"memory_mapped": True} if memory_map else {})
        log = cls((block,), info, header.sources, {}, rows, None, header.hash, str(folder))
        if not memory_map:
            log.hash()
        return log


def _same_kind(first: Log, other: Log, key: Key) -> bool:
    same_dtype = first.column(key).dtype == other.column(key).dtype
    return same_dtype and first.shape(key) == other.shape(key)


def _check_alike(first: Log, other: Log, name: str) -> None:
    for key in dict.fromkeys([*first.keys(), *other.keys()]):
        if key not in first or key not in other or not _same_kind(first, other, key):
            raise LogError(
                "this source does not have the shape and dtype of the first one",
                "Mixed sources need the same columns, shapes and dtypes: mend its column map.",
                path=name,
                column=key_name(key),
            )
