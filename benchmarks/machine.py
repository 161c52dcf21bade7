"""What one core of this machine can do: multiplications in registers, bytes by where they lie.

    python benchmarks/machine.py

Both are the best of several runs of loops that do nothing else, built with the compiler and the
vectors that updates are built with. Bytes are those of ``a = b + s * c``: two read, one written.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from shared import say
from torch._inductor.codecache import CppCodeCache

REPEATS = 7
SECONDS = 0.02  # of one run, at least

SOURCE = """
#include <torch/csrc/inductor/cpp_prefix.h>
using Vector = at::vec::Vectorized<float>;

// Twelve sums, none of which waits for another; 24 operations a number and round.
extern "C" float multiply(int64_t rounds, float factor) {
  Vector sums[12], one(factor), two(0.5f * factor);
  for (auto& sum : sums) sum = Vector(factor);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (auto& sum : sums) sum = at::vec::fmadd(sum, one, two);
  for (int64_t n = 1; n < 12; ++n) sums[0] = sums[0] + sums[n];
  float numbers[Vector::size()];
  sums[0].store(numbers);
  return numbers[0];
}

extern "C" int64_t width() { return Vector::size(); }

extern "C" void triad(int64_t rounds, float* a, const float* b, const float* c, int64_t count) {
  const Vector factor(3.f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t n = 0; n < count; n += Vector::size())
      at::vec::fmadd(factor, Vector::loadu(c + n), Vector::loadu(b + n)).store(a + n);
    asm volatile("" ::: "memory");
  }
}
"""


class Limits(NamedTuple):
    """What one core can do."""

    operations: float
    """Float32 multiplications and additions per second."""
    bytes: dict[int, float]
    """Bytes read and written per second, by the bytes that are gone through."""


def limits(sets: Iterable[int]) -> Limits:
    """Return what one core can do.

    Args:
        sets: Bytes that are gone through again and again; fewer fit into a nearer cache.

    Returns:
        The best of several runs of each.
    """
    library = CppCodeCache.load(SOURCE)
    library.multiply.argtypes = [ctypes.c_int64, ctypes.c_float]
    per_round = 2 * 12 * library.width()
    operations = per_round / _seconds(lambda rounds: library.multiply(rounds, 0.5))
    found = {}
    for size in sets:
        count = max(1, size // 12 // 64) * 64
        rows = [torch.ones(count) for _ in range(3)]
        places = [ctypes.c_void_p(row.data_ptr()) for row in rows]

        def run(rounds: int, places: Any = places, count: int = count) -> None:
            library.triad(ctypes.c_int64(rounds), *places, ctypes.c_int64(count))

        found[size] = 12 * count / _seconds(run)
    return Limits(operations, found)


def best(tries: Iterable[Limits]) -> Limits:
    """Return the best of several looks at the same machine."""
    operations, found = 0.0, dict[int, float]()
    for each in tries:
        operations = max(operations, each.operations)
        for size, rate in each.bytes.items():
            found[size] = max(rate, found.get(size, 0.0))
    return Limits(operations, dict(sorted(found.items())))


def _seconds(run: Callable[[int], Any]) -> float:
    """Return the least time of one round."""
    rounds, times = 1, []
    while len(times) < REPEATS:
        start = time.perf_counter()
        run(rounds)
        taken = time.perf_counter() - start
        if taken < SECONDS:
            rounds *= 2
        else:
            times.append(taken / rounds)
    return min(times)


def main() -> int:
    """Print both."""
    found = limits([24 << 10, 512 << 10, 8 << 20, 256 << 20])
    say(f"{found.operations / 1e9:.0f} GFLOP/s")
    for size, rate in found.bytes.items():
        say(f"{size >> 10:>8,} kB {rate / 1e9:>6.0f} GB/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
