"""Rows that are too many for memory: several matrices read as one, and columns kept in a file."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SPAN = 1 << 18
"""Rows looked at together in a sweep over a log."""


class StackedRows:
    """Matrices ``[n, W]`` of 32-bit words, or frames, read as one; nothing is copied together.

    A gather costs one ``index_select`` per matrix that is hit and one more copy of the rows.
    Measured on one core, 16,384 rows of 46 words: 0.9 ms from one tensor, 3.2 ms from 4 parts,
    4.6 ms from 16.

    Args:
        matrices: Tensors of one dtype, or such parts again, one after another.
        shifts: For each matrix what is added to the int32 words of some columns: first word to
            number.
    """

    def __init__(
        self, matrices: Sequence["Tensor | StackedRows"], shifts: Sequence[Mapping[int, int]]
    ) -> None:
        self._matrices, self._shifts = tuple(matrices), tuple(shifts)
        self._stops = torch.tensor([len(matrix) for matrix in matrices]).cumsum(0)
        self._starts = [0, *self._stops.tolist()]
        self.shape: tuple[int, ...] = (self._starts[-1], *matrices[0].shape[1:])
        self.dtype: torch.dtype = matrices[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return rows ``[M, W]`` of the row numbers ``[M]`` int64; ``dim`` is 0, as for tensors."""
        part = torch.bucketize(index, self._stops, right=True)
        result = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        for number, matrix in enumerate(self._matrices):
            at = (part == number).nonzero().squeeze(1)
            if len(at):
                words = matrix.index_select(0, index[at] - self._starts[number])
                result.index_copy_(dim, at, self._shifted(words, number))
        return result

    def __getitem__(self, rows: slice) -> Tensor:
        """Return a copy ``[M, W]`` of adjacent rows."""
        start, stop, _ = rows.indices(len(self))
        found = [torch.empty((0, *self.shape[1:]), dtype=self.dtype)]
        for number, matrix in enumerate(self._matrices):
            first = self._starts[number]
            low, high = max(start - first, 0), min(stop - first, len(matrix))
            if low < high:
                found.append(self._shifted(matrix[low:high].clone(), number))
        return torch.cat(found)

    def split(self, rows: int) -> Iterator[Tensor]:
        """Yield all rows in order, so many together at most."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def _shifted(self, words: Tensor, number: int) -> Tensor:
        for word, shift in self._shifts[number].items():
            if shift:
                words[:, word].view(torch.int32).add_(shift)
        return words


def in_file(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor that lies in a nameless temporary file instead of private memory.

    The file is made in the folder for temporary files (set by ``TMPDIR``; on a tmpfs it takes
    memory after all) and goes with the tensor.

    Args:
        shape: Its shape.
        dtype: float32 or int64.

    Returns:
        Zeros.
    """
    kind = {torch.float32: np.float32, torch.int64: np.int64}[dtype]
    if not all(shape):
        return torch.zeros(tuple(shape), dtype=dtype)
    return torch.from_numpy(mapped(shape, kind))


def mapped(shape: Sequence[int], dtype: type[Any]) -> "np.memmap[Any, Any]":
    """Return an array that lies in a nameless temporary file, see :func:`in_file`.

    Args:
        shape: Its shape, of at least one number.
        dtype: Its type.

    Returns:
        Zeros.
    """
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, mode="w+", shape=tuple(shape))
