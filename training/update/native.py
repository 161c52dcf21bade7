"""Native: the updates of a chunk as one call of C++.

The counterpart of a scan in :mod:`hindsight_rl.training.update.engine`, where
:mod:`hindsight_rl.training.update.lowering` can write the update down. What an earlier run built is
taken as it is, without the compiler.
"""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.training.update.products import Products
from hindsight_rl.training.update.programs import Built, keep, key_of, read
from hindsight_rl.training.update.recording import record
from hindsight_rl.training.update.writing import LINE

Rows = tuple[Tensor, ...]
Function = Callable[..., Sequence[Tensor]]
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
        products: What large products are computed in.

    Raises:
        hindsight_rl.training.update.lowering.UnknownError: The update cannot be written as C++.
    """

    def __init__(
        self,
        step: Step,
        state: Rows,
        columns: Rows,
        fixed: Callable[[], Rows],
        threads: int,
        products: Products = "float32",
    ) -> None:
        self._step, self._fixed, self._how = step, fixed, (threads, products)
        self._loaded: dict[Any, _Loop] = {}
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

    def _program(self, state: Rows, columns: Rows, given: Rows) -> "_Loop":
        """Return the program for tensors of these shapes."""
        shapes = [column.shape[1:] for column in columns]
        key = (*shapes, *((tensor.shape, tensor.stride()) for tensor in given))
        with self._lock:  # threads that share the seeds meet a new shape at once
            if key not in self._loaded:
                self._loaded[key] = _Loop(self._step, state, columns, given, self._how)
            return self._loaded[key]


def loaded(
    function: Function, inputs: Rows, moved: int, threads: int, products: Products = "float32"
) -> tuple[Any, Built]:
    """Return a loop over a function in C++, as an earlier run built it or built anew.

    Args:
        function: Returns the first ``moved`` inputs as they are after it, and one tensor more. It
            depends on nothing but its inputs, and changes none.
        inputs: Tensors of the shapes, strides and dtypes that it will be called with.
        moved: How many of the inputs are the state that an update moves.
        threads: Threads of an update.
        products: What large products are computed in.

    Returns:
        Its entry, see :func:`hindsight_rl.training.update.writing.write`, and what belongs to it.

    Raises:
        hindsight_rl.training.update.lowering.UnknownError: It cannot be written down.
    """
    known = record(function, inputs)
    key = key_of(known, (moved, threads, products))
    built = read(key, known)
    if built is not None:
        return _entry(built), built
    # Imported where it is needed: the compiler takes more than a second.
    from hindsight_rl.training.update.lowering import build, lower

    program, constants = lower(function, inputs, moved, threads, products)
    library = build(program.source)
    keep(key, known, program, library, constants)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, f"{key}.so")
        path.write_bytes(library)
        built = Built(path, program.room, program.seen, constants)
        return _entry(built), built


def _entry(built: Built) -> Any:
    return ctypes.CDLL(str(built.library)).updates


class _Loop:
    """The program for tensors of certain shapes."""

    def __init__(
        self, step: Step, state: Rows, columns: Rows, given: Rows, how: tuple[int, Products]
    ) -> None:
        moved, ends = len(state), len(state) + len(columns)

        def function(*inputs: Tensor) -> Rows:
            rows, seen = step(inputs[:moved], inputs[moved:ends], inputs[ends:])
            return (*rows, seen)

        entries = [column[0] for column in columns]
        inputs = (*state, *entries, *given)
        self._updates, self._program = loaded(function, inputs, moved, *how)
        self._entries = [torch.empty_strided(e.shape, e.stride(), dtype=e.dtype) for e in entries]
        self._threads = how[0]
        # Per state, for one may be moved beside another: where it goes to, and room to calculate.
        self._memory: dict[int, tuple[Rows, Tensor]] = {}

    def __call__(self, state: Rows, columns: Rows, given: Rows) -> Tensor:
        """Make the updates of a chunk."""
        updates = len(columns[0])
        other, room = self._memory_of(state)
        columns = tuple(map(_laid_out, columns, self._entries))
        seen = torch.empty((updates, *self._program.seen))
        inputs = [*state, *columns, *given, *self._program.constants]
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
