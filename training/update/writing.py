"""Writing: operations as a C++ program, every block of memory in its place."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from hindsight_rl.training.update.operations import Lanes, Operation, Step, lanes
from hindsight_rl.training.update.products import Products

# Bytes: what a place in memory is a multiple of.
LINE = 64


def write(
    operations: Sequence[Operation],
    blocks: Mapping[str, int],
    kernels: Mapping[str, str],
    packed: int,
    moved: int,
    inputs: int,
    threads: int,
    products: Products,
) -> tuple[str, int]:
    """Return operations as a program.

    Args:
        operations: In an order in which they can be done.
        blocks: Bytes of each block of memory that is neither an input nor a result.
        kernels: Functions in C++ that the operations call, by name; ``{name}`` stands for it.
        packed: Bytes that a product needs for itself.
        moved: How many inputs are the state.
        inputs: How many there are.
        threads: Threads of an update.
        products: What large products are computed in.

    Returns:
        One translation unit, and the bytes that ``room`` must have, all 0 at first. Its entry is
        ``int updates(int64_t count, char** in, char** out, const int64_t* steps, char* room)``: it
        makes ``count`` updates and returns 0, or 1 if OpenMP gives it fewer threads than it was
        written for.
    """
    plan = lanes(operations, threads)
    steps = [*plan.each, [Step(number, ()) for number in plan.shared]]
    packed, flags = _lines(packed), _lines(8 * (1 + len(operations)))
    room = _Room(operations, blocks, steps, start=flags + packed * max(1, len(plan.each)))
    headers = ("products.h", "bfloat16.h")[: 1 if products == "float32" else 2]
    entry = _ENTRY.format(
        products="\n".join(files(__package__).joinpath(name).read_text() for name in headers),
        kernels="\n".join(_kernels(kernels, alone=bool(plan.each))),
        body=_body(operations, plan, room, (flags, packed), threads),
        threads=threads,
        moved=moved,
        inputs=inputs,
    )
    return entry, room.size


def _kernels(kernels: Mapping[str, str], *, alone: bool) -> list[str]:
    """Return the functions as they are and, where needed, as one thread runs them."""
    found = [code.format(name=name) for name, code in kernels.items()]
    for name, code in kernels.items() if alone else ():
        serial = re.sub(r"^\s*#pragma omp (?!simd).*$", "", code, flags=re.MULTILINE)
        found.append(serial.format(name=f"{name}_alone"))
    return found


class _Room:
    """Where blocks lie. What one lane alone touches is used again when it is done with it."""

    def __init__(
        self,
        operations: Sequence[Operation],
        blocks: Mapping[str, int],
        steps: Sequence[Sequence[Step]],
        start: int,
    ) -> None:
        self.at: dict[str, int] = {}
        self.size = start
        users: dict[str, set[int]] = {}
        last: dict[str, int] = {}
        for lane, each in enumerate(steps):
            for step in each:
                for place in operations[step.number].places:
                    users.setdefault(place.block, set()).add(lane)
                    last[place.block] = step.number
        for each in steps:
            free: dict[int, list[int]] = {}
            for step in each:
                names = {place.block for place in operations[step.number].places} & blocks.keys()
                for name in sorted(names - self.at.keys()):
                    # Another lane may write it while this one still needs what lay there.
                    self._place(name, blocks[name], free if len(users[name]) == 1 else {})
                for name in sorted(names):
                    if last[name] == step.number and len(users[name]) == 1:
                        free.setdefault(_lines(blocks[name]), []).append(self.at[name])

    def _place(self, name: str, size: int, free: dict[int, list[int]]) -> None:
        size = _lines(size)
        if free.get(size):
            self.at[name] = free[size].pop()
        else:
            self.at[name] = self.size
            self.size += size


def _lines(size: int) -> int:
    return max(1, -(-size // LINE)) * LINE


def _body(
    operations: Sequence[Operation],
    plan: Lanes,
    room: _Room,
    packed: tuple[int, int],
    threads: int,
) -> str:
    """Return the statements of one update; ``packed``: where a lane's own bytes begin, how many."""

    def call(number: int, lane: int, alone: str = "") -> str:
        operation = operations[number]
        pointers = [
            f"(room + {room.at[place.block] + place.start})"
            if place.block in room.at
            else f"({place.block} + {place.start})"
            for place in operation.places
        ]
        place = f"(room + {packed[0] + lane * packed[1]})"
        count = 1 if alone else threads
        return operation.call.format(*pointers, threads=count, packed=place, alone=alone)

    if not plan.each:
        return "\n".join(call(number, 0) for number in plan.shared)
    awaited = {number for each in plan.each for step in each for number in step.after}
    parts = []
    for lane, each in enumerate(plan.each):
        lines = []
        for step in each:
            lines += [f"until(done[{number}], now);" for number in step.after]
            lines.append(call(step.number, lane, "_alone"))
            if step.number in awaited:
                lines.append(f"done[{step.number}].store(now, std::memory_order_release);")
        parts.append(f"if (omp_get_thread_num() == {lane}) {{\n" + "\n".join(lines) + "\n}")
    both = " else ".join(parts)
    end = "\n".join(call(number, 0) for number in plan.shared)
    return (
        "auto* const done = (std::atomic<int64_t>*)room + 1;\n"
        f"#pragma omp parallel num_threads({threads})\n{{\n{both}\n}}\n{end}"
    )


# `in`: the state, then what steps forward with every update or stays. `out`: where the state is
# after an update, and what was seen. `steps`: bytes from one update to the next; the first is that
# of what was seen.
_ENTRY = """
#include <torch/csrc/inductor/cpp_prefix.h>
#include <atomic>
#include <cstring>
#include <omp.h>
#include <thread>
{products}

static inline void until(const std::atomic<int64_t>& done, int64_t now) {{
  for (int64_t spins = 0; done.load(std::memory_order_acquire) < now; ++spins)
    if (spins > 100000) std::this_thread::yield();
}}

{kernels}

static inline void update(char* const* in, char* const* out, char* room, int64_t now) {{
{body}
}}

extern "C" int updates(int64_t count, char** in, char** out, const int64_t* steps, char* room) {{
  int threads = 1;
  if ({threads} > 1) {{
#pragma omp parallel num_threads({threads})
#pragma omp single
    threads = omp_get_num_threads();
    if (threads < {threads}) return 1;
  }}
  int64_t& now = *(int64_t*)room;
  for (int64_t number = 0; number < count; ++number) {{
    update(in, out, room, ++now);
    for (int64_t n = 0; n < {moved}; ++n) std::swap(in[n], out[n]);
    for (int64_t n = {moved}; n < {inputs}; ++n) in[n] += steps[n];
    out[{moved}] += steps[0];
  }}
  return 0;
}}
"""
