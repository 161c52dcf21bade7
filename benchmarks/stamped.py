"""The program of an update with a clock beside every operation, for where.py and counts.py."""

import ctypes
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from chunks import Built

from hindsight_rl.training.update import lowering, native
from hindsight_rl.training.update.operations import Operation, lanes

PRODUCTS, LOOPS, ADAM, COPIES = "products", "loops", "Adam and targets", "copies"
KINDS = (PRODUCTS, LOOPS, ADAM, COPIES)
_SHAPE = re.compile(r"n < (\d+); .*product\w*<\{threads\}, (\d+), (\d+), (\d+),")
_CLOCK = """
#include <x86intrin.h>
static int64_t {{name}}_ticks[{count}];
extern "C" int64_t* {{name}}() {{{{ return {{name}}_ticks; }}}}
extern "C" int64_t {{name}}_now() {{{{ return __rdtsc(); }}}}
"""
_TIMED = """{{{{
asm volatile("" ::: "memory");
const int64_t begun = __rdtsc();
{call}
asm volatile("" ::: "memory");
stamped_ticks[{number}] += __rdtsc() - begun;
}}}}"""


def kind_of(operation: Operation, moved: int) -> str:
    """Return what an operation is.

    Args:
        operation: Of an update.
        moved: Tensors of the state, which come first among the results.
    """
    if "hindsight::" in operation.call:
        return PRODUCTS
    if operation.call.startswith("std::memcpy"):
        return COPIES
    state = {f"out[{number}]" for number in range(moved)}
    written = {operation.places[number].block for number in operation.written}
    return ADAM if written & state else LOOPS


def flops_of(operation: Operation) -> int:
    """Return multiplications and additions of a product."""
    shape = _SHAPE.search(operation.call)
    if shape is None:
        raise ValueError(f"no shape in {operation.call}")
    count, rows, columns, depth = map(int, shape.groups())
    return 2 * count * rows * columns * depth


def bytes_of(operation: Operation) -> int:
    """Return bytes that a loop reads and writes, of each place at most the largest written."""
    sizes = [place.stop - place.start for place in operation.places]
    largest = max(sizes[number] for number in operation.written)
    return sum(min(size, largest) for size in sizes)


class Written:
    """What the compiler made of the update that was built last.

    Attributes:
        operations: In order.
        moved: Tensors of the state.
        threads: Threads of an update.
        room: Bytes of memory between.
        source: The program, with what was added to it.
        inputs: Tensors that the program is called with.
        library: The program, loaded.
    """

    operations: Sequence[Operation]
    moved: int
    threads: int
    room: int
    source: str
    inputs: Sequence[Any]
    library: ctypes.CDLL

    @property
    def shared(self) -> set[int]:
        """Numbers of the operations that all threads do together."""
        return set(lanes(self.operations, self.threads).shared)

    def kinds(self) -> list[str]:
        """Return what each operation is."""
        return [kind_of(operation, self.moved) for operation in self.operations]

    @property
    def state(self) -> int:
        """Bytes of the state, before an update and after it."""
        tensors = self.inputs[: self.moved]
        return 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def microseconds(self, stamped: Built, updates: int, repeats: int) -> tuple[list[float], float]:
        """Return the time of each operation, and that of all, mean of all updates.

        Args:
            stamped: The program with clocks.
            updates: Of a chunk.
            repeats: Chunks.
        """
        self.library.stamped.restype = ctypes.POINTER(ctypes.c_int64)
        self.library.stamped_now.restype = ctypes.c_int64
        ticks, now = self.library.stamped(), self.library.stamped_now
        for _ in range(3):
            stamped.run()
        for number in range(len(self.operations)):
            ticks[number] = 0
        start, first, before = time.perf_counter(), now(), stamped.program()
        for _ in range(repeats):
            stamped.run()
        each = (time.perf_counter() - start) / (now() - first)
        scale = 1e6 / updates / repeats
        taken = [scale * each * ticks[number] for number in range(len(self.operations))]
        return taken, scale * (stamped.program() - before)


@contextmanager
def written(
    added: Callable[[int, Operation], str] | None = None, head: str = ""
) -> Iterator[Written]:
    """Have the next update written anew, and return what it is made of.

    Args:
        added: Returns an operation's statement with something added; ``None`` for the clock.
        head: What the program needs for that.

    Yields:
        What was written, once an update is built.
    """
    found, write, lower = Written(), lowering.write, lowering.lower

    def timed(number: int, operation: Operation) -> str:
        return _TIMED.format(call=operation.call, number=number)

    def writing(
        operations: Sequence[Operation], blocks: Any, kernels: Mapping[str, str], *others: Any
    ) -> tuple[str, int]:
        _, found.moved, _, found.threads, _ = others
        found.operations = operations
        changed = [
            replace(operation, call=(added or timed)(number, operation))
            for number, operation in enumerate(operations)
        ]
        top = head if added else _CLOCK.format(count=len(operations))
        named = {"stamped": top} | dict(kernels)
        found.source, found.room = write(changed, blocks, named, *others)
        return found.source, found.room

    def lowered(function: Any, inputs: Any, *others: Any) -> Any:
        program, constants = lower(function, inputs, *others)
        found.inputs = [*inputs, *constants]
        return program, constants

    def entry(built: Any) -> Any:
        found.library = ctypes.CDLL(str(built.library))
        return found.library.updates

    with (
        patch.object(lowering, "write", writing),
        patch.object(lowering, "lower", lowered),
        patch.object(native, "read", lambda *_: None),
        patch.object(native, "keep", lambda *_: None),
        patch.object(native, "_entry", entry),
    ):
        yield found
