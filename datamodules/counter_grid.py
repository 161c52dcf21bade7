"""Counters of a chunk on the CPU before they are spread out: cheaper to draw from."""

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.maths.draws import (
    MASK,
    MULTIPLIER,
    ROUNDS,
    WEYL,
    draw_key,
    fork_key,
    seed_key,
)

_LOW, _FACTOR, _HALF = np.uint64(MASK), np.uint64(MULTIPLIER), np.uint64(32)


class CounterGrid:
    """Counters of a whole chunk on the CPU: what a row or a column has in common is held once.

    Its draws are those of ``maths/draws.py``, at about a third of the cost: NumPy has unsigned
    64-bit words, and no key is a matrix.

    Args:
        seeds: Seeds, one for each copy.
        updates: ``[K]`` int64, numbers of the updates.
        rows: ``[B]`` int64, numbers of the rows within an update.
    """

    def __init__(self, seeds: Sequence[int], updates: Tensor, rows: Tensor) -> None:
        self._keys = [seed_key(seed) for seed in seeds]
        self._updates, self._rows = updates, rows

    def fork(self, stream: str | int) -> Self:
        """Return the grid of an independent stream."""
        other = copy.copy(self)
        other._keys = [fork_key(key, stream) for key in self._keys]
        return other

    def counters(self) -> Tensor:
        """Return the counters ``[K, S, B, 3]`` int64."""
        count = len(self._keys)
        words = torch.empty((3, len(self._updates), count, len(self._rows)), dtype=torch.int64)
        words[0] = torch.tensor(self._keys)[:, None]
        words[1] = self._updates[:, None, None]
        words[2] = self._rows
        return words.movedim(0, -1)

    def _words(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        keys = [draw_key(key, draw) for key in self._keys]
        key = np.array(keys, np.uint64)[:, None]
        # Small until they must be wide: the first two rounds cost next to nothing.
        low, high = self._rows.numpy().astype(np.uint64), self._updates.numpy().astype(np.uint64)
        return _philox(low & _LOW, (high & _LOW)[:, None, None], key)

    def passes(self, count: int, first: int, width: int) -> Tensor:
        """Return numbers ``[K, S, B]`` int64 below ``count``, each once before any comes again.

        One shuffled pass follows another, and a batch may lie across the edge of two.

        Args:
            count: Numbers of a pass, at least 1.
            first: Update whose first row begins the first pass.
            width: Rows of an update, over all ranks.

        Returns:
            int64.
        """
        place = (self._updates[:, None] - first) * width + self._rows
        number, within = (place // count).numpy(), (place % count).numpy()
        found = np.empty((len(place), len(self._keys), place.shape[1]), np.int64)
        start, rows = np.array(first, np.uint64) & _LOW, np.arange(count, dtype=np.uint64)
        for seed, key in enumerate(self._keys):
            for each in np.unique(number):
                words = _philox(rows, start, np.array(draw_key(key, int(each)), np.uint64))
                order = np.argsort((words[0] << _HALF) | words[1], kind="stable")
                at = number == each
                found[:, seed][at] = order[within[at]]
        return torch.from_numpy(found)

    def uniform(self, draw: int = 0) -> Tensor:
        """Return numbers ``[K, S, B]`` float32 uniform on [0, 1)."""
        word, _ = self._words(draw)
        return torch.from_numpy((word >> np.uint64(8)).astype(np.float32)) * 2.0**-24

    def fine_uniform(self, draw: int = 0) -> Tensor:
        """Return numbers ``[K, S, B]`` float64 uniform on [0, 1), multiples of 2**-53."""
        first, second = self._words(draw)
        whole = (first << np.uint64(21)) + (second >> np.uint64(11))
        return torch.from_numpy(whole.astype(np.float64)) * 2.0**-53

    def integers(self, high: Tensor | int, draw: int = 0) -> Tensor:
        """Return integers ``[K, S, B]`` int64 uniform on [0, high).

        Args:
            high: Exclusive upper end, in [1, 2**31), a number or int64 ``[K, S, B]``.
            draw: Which draw of each counter.

        Returns:
            int64.
        """
        first, second = self._words(draw)
        end = high.numpy().astype(np.uint64) if isinstance(high, Tensor) else np.uint64(high)
        found = (first * end + ((second * end) >> _HALF)) >> _HALF
        return torch.from_numpy(found.view(np.int64))


def _philox(low: np.ndarray, high: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two output words of Philox2x32-10 of counters and keys below 2**32."""
    for _ in range(ROUNDS):
        product = low * _FACTOR
        low, high = (product >> _HALF) ^ (key ^ high), product & _LOW
        key = (key + np.uint64(WEYL)) & _LOW
    return low, high
