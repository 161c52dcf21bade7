"""The replay: whole episodes in the order they were collected, the newest so many rows of them.

Rows are packed as in any log. A replay in memory drops its oldest episodes for good; one in a file
leaves them there, outside the window that is drawn from, so that every earlier checkpoint finds the
rows it had. Where episodes lie is kept beside the rows, because that changes as episodes go.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.datamodules.replay_frames import FrameWindow, check_frames
from hindsight_rl.keys import EPISODE, EPISODE_END, STEP, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import MATRIX, Source, write_rows
from hindsight_rl.logs.frames import Frames, split_images
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import Column, PackedColumns, episode_columns

_PLACES: dict[Key, Column] = {
    EPISODE: Column(0, (), "int64"),
    STEP: Column(1, (), "int64"),
    EPISODE_END: Column(2, (), "int64"),
}


class _Rows(Protocol):
    """Packed rows of which the oldest go and new ones come."""

    def rows(self) -> Tensor:
        """Return what is held, ``[N, W]``; valid until the next change."""

    def drop(self, count: int) -> None:
        """Let go of the oldest rows."""

    def append(self, words: Tensor) -> None:
        """Add rows ``[M, W]``."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""


class _Memory:
    """Rows in memory: a window that wanders through a matrix a quarter larger than needed.

    When it reaches the end it is copied to the front, so that a row is copied four times at most on
    average while it is held.
    """

    def __init__(self, width: int, capacity: int) -> None:
        # Memory that was never written to is not taken from the system.
        self._words = torch.empty((capacity + capacity // 4 + 1, width))
        self._start = self._stop = 0

    def rows(self) -> Tensor:
        return self._words[self._start : self._stop]

    def drop(self, count: int) -> None:
        self._start += count

    def append(self, words: Tensor) -> None:
        if self._start == self._stop:
            self._start = self._stop = 0
        if self._stop + len(words) > len(self._words):
            kept = self.rows().clone()
            self._words[: len(kept)] = kept
            self._start, self._stop = 0, len(kept)
        self._words[self._stop : self._stop + len(words)] = words
        self._stop += len(words)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows().clone()}  # a view would be saved with all of its matrix


class _File:
    """Rows in a file that only grows; a window of it is mapped."""

    def __init__(self, path: Path, width: int) -> None:
        self.path, self._width = path, width
        self._start = self._stop = 0
        self._digest = hashlib.sha256()

    def rows(self) -> Tensor:
        shape = self._stop - self._start, self._width
        if not shape[0]:
            return torch.empty(shape)
        start = 4 * self._width * self._start
        # Copy-on-write: torch wants a writable buffer, nothing here writes to it.
        return torch.from_numpy(np.memmap(self.path, np.float32, "c", start, shape))

    def drop(self, count: int) -> None:
        self._start += count

    def append(self, words: Tensor) -> None:
        write_rows(self.path, words)
        self._digest.update(words.contiguous().numpy().data)
        self._stop += len(words)

    def state_dict(self) -> dict[str, Any]:
        return {"window": [self._start, self._stop], "hash": self._digest.hexdigest()}

    def load(self, start: int, stop: int, promised: str, *, cut: bool) -> None:
        """Take over the rows of a checkpoint.

        Args:
            start: First row that is drawn.
            stop: Number of rows written.
            promised: Hash of the rows written.
            cut: Cut off what was written after the checkpoint.

        Raises:
            LogError: The file is not the one the checkpoint belongs to.
        """
        self._start, self._stop = start, stop
        size = 4 * self._width * stop
        left, digest = size, hashlib.sha256()
        if self.path.exists():
            with self.path.open("rb") as file:
                while left and (piece := file.read(min(left, 1 << 22))):
                    digest.update(piece)
                    left -= len(piece)
        if left or digest.hexdigest() != promised:
            problem = f"{left} bytes are missing" if left else "its bytes were changed"
            raise LogError(
                f"not the replay that the checkpoint was written with: {problem}",
                "Give the folder of that run as memory_map, or start a new run.",
                path=self.path,
            )
        if cut:
            os.truncate(self.path, size)
        self._digest = digest


class Replay:
    """Whole episodes, the newest ``capacity`` rows at most.

    Args:
        capacity: Rows that may be drawn from at most, at least 1.
        info: Facts of the log, see :class:`Log`.

    Raises:
        ValueError: ``capacity`` is below 1.
    """

    def __init__(self, capacity: int, info: Mapping[str, Any]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} rows, it must be at least 1")
        self.capacity, self._info = capacity, dict(info)
        self._columns: dict[Key, Column] = {}
        self._content: _Rows | None = None
        self._places = _Memory(len(_PLACES), capacity)
        self._frames: dict[Key, FrameWindow] = {}
        self._lengths = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return int(self._lengths.sum())

    @property
    def log(self) -> Log:
        """The rows as a log, nothing copied; it holds until the next :meth:`append`."""
        if self._content is None:
            raise LogError("the replay is empty", "Append episodes first.")
        blocks = (
            PackedColumns(self._content.rows(), self._columns),
            PackedColumns(self._places.rows(), _PLACES),
        )
        mapped = {"memory_mapped": True} if isinstance(self._content, _File) else {}
        name = str(self._info.get("source", "replay"))
        images = {key: Frames(held.frames(), whole=True) for key, held in self._frames.items()}
        return Log(blocks, self._info | mapped, (Source(0, len(self), 1.0, name),), images)

    def append(self, columns: Mapping[Key, Tensor], lengths: Tensor) -> None:
        """Add episodes; the oldest ones go where there are too many rows.

        Args:
            columns: ``[M, ...]`` by key, all but where episodes begin and end; of images (uint8)
                ``[M + E, ...]``.
            lengths: ``[E]`` int64, steps of each episode.

        Raises:
            LogError: Columns differ from those before, or an episode is longer than ``capacity``.
        """
        if int(lengths.max()) > self.capacity:
            raise LogError(
                f"an episode of {int(lengths.max())} steps does not fit a capacity of "
                f"{self.capacity} rows",
                "Raise capacity, or give a smaller max_episode_steps.",
            )
        total = int(lengths.sum())
        columns, images = split_images(dict(columns), total, len(lengths))
        fitting = int((lengths.flip(0).cumsum(0) <= self.capacity).sum())
        lengths = lengths[len(lengths) - fitting :]
        count = int(lengths.sum())
        block = PackedColumns.pack(
            {key: value[len(value) - count :] for key, value in columns.items()}
        )
        shapes = {key: frames.shape for key, frames in images.items()}
        content = self._begun(block.columns, shapes)
        self._make_room(total)
        held = len(self)
        content.append(torch.as_tensor(block.matrix))
        for key, frames in images.items():
            pixels = frames.pixels[:]
            self._frames[key].append(pixels[len(pixels) - count - fitting :])
        self._places.append(_places_of(lengths, len(self._lengths), held))
        self._lengths = torch.cat([self._lengths, lengths])

    def begin_like(self, other: "Replay") -> None:
        """Say before the first episode which columns there will be: those of another replay.

        Args:
            other: A replay that holds episodes.

        Raises:
            LogError: This one holds other columns.
        """
        self._begun(other._columns, {key: held.shape for key, held in other._frames.items()})

    def begin(self, columns: Mapping[Key, Column]) -> None:
        """Say before the first episode which columns there will be.

        Args:
            columns: Packed columns without images.

        Raises:
            LogError: This one holds other columns.
        """
        self._begun(dict(columns), {})

    def _begun(self, columns: dict[Key, Column], images: Mapping[Key, tuple[int, ...]]) -> _Rows:
        """Return where rows of these columns go, which is made for the first ones."""
        if self._content is None:
            self._columns = columns
            self._frames = {key: FrameWindow(shape) for key, shape in images.items()}
            width = sum(column.width for column in columns.values())
            self._content = _Memory(width, self.capacity)
        _check_columns(self._columns, columns)
        check_frames(self._frames, images)
        return self._content

    def _make_room(self, count: int) -> None:
        """Drop the oldest episodes until so many rows fit, and number the others from 0."""
        over = len(self) + count - self.capacity
        if over <= 0 or not len(self._lengths):
            return
        stops = self._lengths.cumsum(0)
        episodes = min(int((stops < over).sum()) + 1, len(stops))
        self._drop(rows := int(stops[episodes - 1]), episodes)
        # The one thing done to all rows: two integers each, about a millisecond for a million.
        words = self._places.rows().view(torch.int32)
        words -= torch.tensor([episodes, 0, rows], dtype=torch.int32)

    def clear(self) -> None:
        """Drop all episodes; the next ones have the same columns and are numbered from 0."""
        self._drop(len(self), len(self._lengths))

    def _drop(self, rows: int, episodes: int) -> None:
        if self._content is not None:
            self._content.drop(rows)
        self._places.drop(rows)
        for held in self._frames.values():
            held.drop(rows + episodes)
        self._lengths = self._lengths[episodes:]

    def leave_out(self, key: Key) -> None:
        """Drop a column, of the rows held and of those to come.

        Args:
            key: The column; nothing is done where there is none.

        Raises:
            LogError: The rows lie in a file.
        """
        if key not in self._columns or self._content is None:
            return
        if isinstance(self._content, _File):
            raise LogError(
                f"its rows have the column '{key_name(key)}', which the policy would not give now",
                "Resume with the collection of that run (explore, sample), or start a new run.",
                path=self._content.path,
            )
        rows = PackedColumns(self._content.rows(), self._columns)
        kept = {name: rows.column(name) for name in self._columns if name != key}
        block = PackedColumns.pack(kept)
        words = torch.as_tensor(block.matrix)
        self._columns, self._content = block.columns, _Memory(words.shape[1], self.capacity)
        self._content.append(words)

    def to_file(self, folder: str | Path) -> None:
        """Move the rows into a file, where further ones go too.

        Args:
            folder: Where it is made.

        Raises:
            LogError: It holds a replay already.
        """
        if self._frames:
            raise LogError(
                "images are kept in memory and in checkpoints only",
                "Leave memory_map out, and set capacity to what memory holds.",
                path=folder,
            )
        path = Path(folder) / MATRIX
        if path.exists():
            raise LogError(
                "holds the replay of another run",
                "Resume that run, choose another folder, or remove this one.",
                path=folder,
            )
        matrix = self.log.blocks[0].matrix
        content = _File(path, matrix.shape[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        content.append(torch.as_tensor(matrix))
        self._content = content

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the rows themselves, or which rows of the file."""
        content = {} if self._content is None else self._content.state_dict()
        if self._frames:  # a view would be saved with all of its memory
            content["images"] = {key_name(k): v.frames().clone() for k, v in self._frames.items()}
        return {"columns": _listed(self._columns), "lengths": self._lengths, **content}

    def load_state_dict(
        self, state: Mapping[str, Any], folder: str | Path | None = None, *, cut: bool = True
    ) -> None:
        """Take over the rows of a checkpoint, in the place of those held.

        Args:
            state: What :meth:`state_dict` returned.
            folder: Where the rows lie if they lie in a file.
            cut: Cut off what the file got after the checkpoint; needed to go on.

        Raises:
            LogError: They are rows of another kind, too many, or lie elsewhere than stated.
        """
        if state["columns"] != _listed(self._columns):
            raise LogError(
                f"the checkpoint holds the columns {state['columns']}, this replay "
                f"{_listed(self._columns)}",
                "Resume with the same environment and the same release.",
            )
        if ("window" in state) != (folder is not None):
            where = "in a folder" if "window" in state else "in the checkpoint itself"
            raise LogError(
                f"the replay of this run lies {where}",
                "Set memory_map as in the run that is resumed.",
            )
        if (rows := int(state["lengths"].sum())) > self.capacity:
            raise LogError(
                f"the checkpoint holds {rows} rows, and the capacity is {self.capacity}",
                f"Set capacity to {rows} at least.",
            )
        images = {key: state.get("images", {}).get(key_name(key)) for key in self._frames}
        shapes = {key: tuple(held.shape[1:]) for key, held in images.items() if held is not None}
        check_frames(self._frames, shapes)
        self._frames = {key: FrameWindow(shape) for key, shape in shapes.items()}
        for key, held in self._frames.items():
            held.append(images[key])
        width = sum(column.width for column in self._columns.values())
        if folder is not None:
            content = _File(Path(folder) / MATRIX, width)
            start, stop = state["window"]
            content.load(start, stop, state["hash"], cut=cut)
            self._content = content
        else:
            self._content = _Memory(width, self.capacity)
            self._content.append(state["rows"])
        self._lengths = state["lengths"]
        self._places = _Memory(len(_PLACES), self.capacity)
        self._places.append(_places_of(self._lengths, 0, 0))


def _places_of(lengths: Tensor, episodes: int, rows: int) -> Tensor:
    """Return the packed words ``[M, 3]`` of episodes that lie behind others."""
    number = torch.arange(len(lengths)).repeat_interleave(lengths)
    columns = episode_columns(number)
    columns[EPISODE] += episodes
    columns[EPISODE_END] += rows
    return torch.as_tensor(PackedColumns.pack({key: columns[key] for key in _PLACES}).matrix)


def _listed(columns: Mapping[Key, Column]) -> dict[str, list[Any]]:
    """Return columns as a checkpoint keeps them: first word, shape and dtype by name."""
    return {key_name(key): [c.start, list(c.shape), c.dtype] for key, c in columns.items()}


def _check_columns(held: Mapping[Key, Column], given: Mapping[Key, Column]) -> None:
    """Raise on episodes with other columns than those before."""
    if held != given:
        raise LogError(
            f"the replay holds the columns {_listed(held)}, the new episodes {_listed(given)}",
            "Let every episode give the same observations.",
        )
