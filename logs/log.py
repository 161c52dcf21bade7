"""One log: every transition a row of one packed matrix, in memory or memory-mapped.

How rows are packed: :mod:`hindsight_rl.logs.packed`. Image columns, which stay uint8, lie
beside the matrix. Joining several logs: :mod:`hindsight_rl.logs.joining`. Saving and loading:
:mod:`hindsight_rl.logs.saving`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import EPISODE, EPISODE_END, OBSERVATION, STEP, Key
from hindsight_rl.logs import joining, saving
from hindsight_rl.logs.errors import missing_key
from hindsight_rl.logs.folder import Source
from hindsight_rl.logs.frames import Frames, check_stackable, next_key, pixels_of, split_images
from hindsight_rl.logs.packed import (
    PackedColumns,
    check_lengths,
    check_needed,
    content_hash,
    episode_columns,
    nested,
    observed,
    with_block,
)
from hindsight_rl.logs.precision import check_precision
from hindsight_rl.logs.rows import SPAN
from hindsight_rl.ports import Each


@dataclass(frozen=True)
class Log:
    """Transitions in order, episodes one after another.

    Args:
        blocks: Packed columns; the first block holds what was read, later ones what relabelers add.
        images: uint8 columns that stay beside the packed matrix.
        info: Plain facts that JSON can hold: ``names``, ``units``, ``action`` bounds,
            ``control_rate_hz``, ``discrete_actions``, where the log came from.
        sources: Rows of each mixed source and its weight; one entry for a single source.
        rows: Row numbers ``[M]`` int64 that may be drawn, ``None`` for all.
        digest: What :meth:`hash` answered before the blocks were packed, ``None`` if they were not.
        promise: Of a loaded log: hash of its first block as the header states it, and the hash of
            the log that was saved.
        folder: Of a loaded log: where it lies.
        members: Of several memory-mapped logs read as one: the logs.
        frame_stack: Frames that are gathered for each row, see :meth:`Frames.stack`.
        each: Applies a function to parts of the log, in this process unless given.
    """

    blocks: tuple[PackedColumns, ...]
    info: dict[str, Any]
    sources: tuple[Source, ...]
    images: dict[Key, Frames] = field(default_factory=dict)
    rows: Tensor | None = None
    digest: str | None = None
    promise: tuple[str, str] | None = None
    folder: str | None = None
    members: tuple["Log", ...] = ()
    frame_stack: int = 1
    each: Each = map

    @classmethod
    def from_columns(
        cls, columns: Mapping[Key, Tensor | np.ndarray], info: Mapping[str, Any] | None = None
    ) -> "Log":
        """Return a log of columns that are already checked.

        Args:
            columns: ``[N, ...]`` arrays by key. Needed: observation (or its entries, keys
                ``("observation", NAME)``, in their order), action, next observation, reward,
                terminated, truncated and ``episode`` (int, rows of one episode adjacent).
                ``step`` and ``episode_end`` are computed here. Images (uint8) may have one frame
                more per episode, what its last step led to: then they give the next frame too.
            info: Plain facts, see the class.

        Returns:
            A log in memory.

        Raises:
            LogError: A key is missing, lengths disagree, the log is empty, or float32 cannot
                distinguish the real numbers of a column.
        """
        tensors = {key: torch.as_tensor(value) for key, value in columns.items()}
        check_needed(tensors)
        episode = tensors.pop(EPISODE).to(torch.int64)
        tensors |= episode_columns(episode)
        packed, images = split_images(tensors, len(episode), int(tensors[EPISODE][-1]) + 1)
        check_lengths(packed, len(episode), "'episode'")
        check_precision(packed)
        facts = dict(info or {})
        if observed(columns) != [OBSERVATION]:  # packed columns and images lie apart
            facts["entries"] = [key[1] for key in observed(columns)]
        source = Source(0, len(episode), 1.0, str(facts.get("source", "memory")))
        return cls((PackedColumns.pack(packed),), facts, (source,), images)

    @classmethod
    def concatenate(cls, logs: Sequence["Log"], weights: Sequence[float]) -> "Log":
        """Return one log of several; rows of log ``i`` are drawn in proportion to ``weights[i]``.

        Args:
            logs: Logs with the same keys, shapes and dtypes, whose facts agree
                (:mod:`hindsight_rl.logs.common_facts`).
            weights: One positive number per log.

        Returns:
            A log with episodes renumbered: memory-mapped where all the logs are (and lie alike),
            or else a copy in memory. Contents and hash are the same.

        Raises:
            LogError: Keys, shapes, dtypes or facts differ, or a weight is not positive.
        """
        return joining.joined_logs(logs, weights)

    def __len__(self) -> int:
        return len(self.blocks[0].matrix)

    def packed_keys(self) -> list[Key]:
        """Return the key of every packed column once."""
        return list(dict.fromkeys(key for block in self.blocks for key in block.columns))

    def keys(self) -> list[Key]:
        """Return every key once."""
        following = [next_key(key) for key, frames in self.images.items() if frames.whole]
        return [*self.packed_keys(), *self.images, *following]

    def __contains__(self, key: Key) -> bool:
        return key in self.keys()

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
        for block in reversed(self.blocks):
            if key in block.columns:
                return block.column(key, rows)
        for image, frames in self.images.items():
            if key == image and not frames.whole:
                return frames.pixels[rows]
            if key in (image, next_key(image)) and frames.whole:
                number = torch.arange(*rows.indices(len(self)))
                return frames.take(number, self.column(EPISODE, rows), after=key != image)
        raise missing_key(key, self.keys(), self.sources[0].name)

    def shape(self, key: Key) -> tuple[int, ...]:
        """Return the shape of one row of a column."""
        return tuple(self.column(key, slice(1)).shape[1:])

    @property
    def observed(self) -> list[Key]:
        """Keys of what is observed: ``observation``, or its entries in their order."""
        entries = self.info.get("entries")
        return [OBSERVATION] if not entries else [("observation", name) for name in entries]

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
        images = {key: image for key, image in self.images.items() if key not in columns}
        blocks = with_block(self.blocks, columns, on_disk=bool(self.info.get("memory_mapped")))
        # Without images that were read, the hash of what was read cannot be found any more.
        digest = self.hash() if len(images) < len(self.images) else self.digest
        return replace(self, blocks=blocks, images=images, digest=digest)

    def with_rows(self, rows: Tensor | None) -> "Log":
        """Return this log with other drawable rows (``None`` keeps them)."""
        return self if rows is None else replace(self, rows=rows)

    def with_frame_stack(self, depth: int) -> "Log":
        """Return this log with so many frames of every image gathered for a row.

        Args:
            depth: At least 1.

        Returns:
            A log that shares the memory of this one.

        Raises:
            LogError: There is nothing to stack, or what follows the last frame is not known.
        """
        if depth == 1:
            return self
        check_stackable(self.images, depth, self.sources[0].name)
        return replace(self, frame_stack=depth)

    def packed(self) -> "Log":
        """Return this log with all columns in one block (one copy; not for memory-mapped logs)."""
        if len(self.blocks) == 1 or self.info.get("memory_mapped"):
            return self
        return replace(self, blocks=(saving.one_block(self),), digest=self.hash())

    def gather(self, index: Tensor, *, images: bool = True) -> TensorDict:
        """Return rows as a TensorDict of the index's shape; one gather per block.

        Args:
            index: int64 row numbers of any shape.
            images: Whether the batch has images too.

        Returns:
            TensorDict with every key of the log and ``index``.
        """
        flat = index.reshape(-1)
        values: dict[Key, Tensor] = {"index": index}
        for block in self.blocks:
            words = block.matrix.index_select(0, flat).view(*index.shape, block.matrix.shape[1])
            values |= block.unpack(words)
        batch = TensorDict(nested(values), batch_size=index.shape)
        return self.attach_images(batch) if images else batch

    def take(self, key: Key, rows: Tensor) -> Tensor:
        """Return rows of one column by their numbers.

        Args:
            key: One of :meth:`keys`.
            rows: ``[...]`` int64.

        Returns:
            ``[..., *shape]``: float32, int64, bool or uint8.
        """
        flat = rows.reshape(-1)
        for block in reversed(self.blocks):
            if key in block.columns:
                return block.take(key, flat).reshape(*rows.shape, *block.columns[key].shape)
        for image, frames in self.images.items():
            if key == image or (frames.whole and key == next_key(image)):
                return frames.take(rows, self.take(EPISODE, rows), after=key != image)
        return self.column(key)  # which raises, and says what there is

    def attach_images(self, batch: TensorDict) -> TensorDict:
        """Set the images of gathered rows in their batch, and return it."""
        for key, frames in self.images.items():
            row, step, episode = batch["index"], batch[STEP], batch[EPISODE]
            found = frames.stack(row, step, episode, self.frame_stack)
            for name, value in zip((key, next_key(key)), found, strict=False):
                batch.set(name, value)
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
        for member in self.members:
            member.hash()
        found = content_hash(self.blocks[0], pixels_of(self.images))
        return saving.promised_hash(self, found)

    def save(self, path: str | Path) -> None:
        """Write the log as a folder: a JSON header, one matrix, images, drawable rows if chosen.

        The folder is written under a temporary name and renamed, so it is whole or absent.

        Args:
            path: Folder to make; its parents are made too.

        Raises:
            LogError: The folder exists.
        """
        saving.save(self, path)

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
        held = saving.stored(Path(path), memory_map)
        log = cls(
            held.blocks,
            held.info,
            held.sources,
            held.images,
            held.rows,
            promise=held.promise,
            folder=held.folder,
        )
        if not memory_map:
            log.hash()
        return log
