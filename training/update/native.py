"""Native: the updates of a chunk as one call of C++.

The counterpart of a scan in :mod:`hindsight_rl.training.update.engine`, where
:mod:`hindsight_rl.training.update.lowering` can write the update down.
"""

import ctypes
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch._inductor.codecache import CppCodeCache

from hindsight_rl.training.update.lowering import lower
from hindsight_rl.training.update.writing import LINE

Rows = tuple[Tensor, ...]
Step = Callable[[Rows, Rows, Rows], tuple[Rows, Tensor]]


class Native:
    """Updates of a chunk in C++: a function of the state, which it moves in place.

    Args:
        step: One update: state, entries of this update, tensors that stay -> state, and what was
            seen. It depends on nothing else that changes.
        state: Tensors of the state, contiguous.
        columns: Tensors ``[K, ...]``, one entry per update.
        fixed: Returns the tensors that stay for a chunk.
        threads: Threads of an update.

    Raises:
        hindsight_rl.training.update.lowering.UnknownError: The update cannot be written as C++.
    """

    def __init__(
        self, step: Step, state: Rows, columns: Rows, fixed: Callable[[], Rows], threads: int
    ) -> None:
        self._step, self._fixed, self._threads = step, fixed, threads
        self._loaded: dict[Any, _Loaded] = {}
        self._lock = Lock()
        self._program(state, columns, fixed())

    def __call__(self, state: Rows, *columns: Tensor) -> Tensor:
        """Make the updates of a chunk.

        Args:
            state: As at first; moved in place.
            *columns: As at first, for any number of updates K; other shapes are written anew.

        Returns:
            What was seen, ``[K, ...]`` float32.
        """
        given = self._fixed()
        return self._program(state, columns, given)(state, columns, given)

    def _program(self, state: Rows, columns: Rows, given: Rows) -> "_Loaded":
        """Return the program for tensors of these shapes."""
        shapes = [column.shape[1:] for column in columns]
        key = (*shapes, *((tensor.shape, tensor.stride()) for tensor in given))
        with self._lock:  # threads that share the seeds meet a new shape at once
            if key not in self._loaded:
                self._loaded[key] = _Loaded(self._step, state, columns, given, self._threads)
            return self._loaded[key]


class _Loaded:
    """The program for tensors of certain shapes."""

    def __init__(self, step: Step, state: Rows, columns: Rows, given: Rows, threads: int) -> None:
        moved, ends = len(state), len(state) + len(columns)

        def function(*inputs: Tensor) -> Rows:
            rows, seen = step(inputs[:moved], inputs[moved:ends], inputs[ends:])
            return (*rows, seen)

        entries = [column[0] for column in columns]
        self._program, self._constants = lower(function, [*state, *entries, *given], moved, threads)
        self._entries = [torch.empty_strided(e.shape, e.stride(), dtype=e.dtype) for e in entries]
        self._threads = threads
        self._updates = CppCodeCache.load(self._program.source).updates
        # Per state, for one may be moved beside another: where it goes to, and room to calculate.
        self._memory: dict[int, tuple[Rows, Tensor]] = {}

    def __call__(self, state: Rows, columns: Rows, given: Rows) -> Tensor:
        """Make the updates of a chunk."""
        updates = len(columns[0])
        other, room = self._memory_of(state)
        columns = tuple(map(_laid_out, columns, self._entries))
        seen = torch.empty((updates, *self._program.seen))
        inputs = [*state, *columns, *given, *self._constants]
        steps = [0] * len(inputs)
        for number, column in enumerate(columns, start=len(state)):
            steps[number] = column.stride(0) * column.element_size()
        steps[0] = seen.stride(0) * seen.element_size()
        failed = self._updates(
            ctypes.c_int64(updates),
            _addresses(inputs),
            _addresses([*other, seen]),
            (ctypes.c_int64 * len(steps))(*steps),
            ctypes.c_void_p(-(-room.data_ptr() // LINE) * LINE),
        )
        if failed:
            raise RuntimeError(
                f"OpenMP gives this process fewer than {self._threads} threads: "
                f"set --model.threads 1, or OMP_THREAD_LIMIT higher"
            )
        if updates % 2:  # every update goes from one to the other
            for row, moved in zip(state, other, strict=True):
                row.copy_(moved)
        return seen

    def _memory_of(self, state: Rows) -> tuple[Rows, Tensor]:
        key = state[0].data_ptr()
        if key not in self._memory:
            room = torch.zeros(self._program.room + LINE, dtype=torch.uint8)
            self._memory[key] = tuple(torch.empty_like(row) for row in state), room
        return self._memory[key]


def _laid_out(column: Tensor, entry: Tensor) -> Tensor:
    """Return a column whose entries have the strides that the program was written for."""
    if column.stride()[1:] == entry.stride():
        return column
    size = 1 + sum((n - 1) * s for n, s in zip(entry.shape, entry.stride(), strict=True))
    room = torch.empty(len(column) * size, dtype=entry.dtype)
    laid = room.as_strided(column.shape, (size, *entry.stride()))
    return laid.copy_(column)


def _addresses(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
