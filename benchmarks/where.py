"""Where the microseconds of an update go, and the least that this machine could do them in (IQL).

    python benchmarks/where.py [--repeats 5] [--each] [--no_document]

The program of an update (training/update) is built anew with a clock beside every operation; what
the clocks cost is taken off in proportion. Around it: the call of a chunk, reading its rows, and
Lightning's loop. With two threads a time is the mean of both. The least: products at the rate of
multiplications in registers; loops at the rate of bytes where what lies between them is, Adam at
that where the state is (:mod:`machine`). ``--each`` prints every operation. Takes three minutes;
writes a table of docs/speed.md and build/where.json, and prints the same update one operator after
another.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from bench import UPDATES_PER_STEP
from chunks import Built, built, chunk_of
from machine import Limits, best, limits
from results import BUILD, ROOT, replace_part
from shared import quiet, say, table
from sizes import L, S, Size
from stamped import ADAM, KINDS, LOOPS, PRODUCTS, Written, bytes_of, flops_of, written
from torch.profiler import ProfilerActivity, profile

from hindsight_rl.files import write_text

CASES = ((S, 1), (L, 1), (L, 2))
MEMORY = (256 << 20,)
CHUNKS = {"S": 200, "L": 20}  # of one measurement
WAIT, CALL, ROWS, LOOP = (
    "waiting, and between them",
    "the call of a chunk",
    "reading the rows",
    "Lightning's loop",
)
GROUPS: dict[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "Adam": ("aten::_fused_adam", "aten::_fused_adam_"),
    "target step": ("aten::_foreach_lerp",),
    "gradient bookkeeping": ("autograd::", "AccumulateGrad", "aten::detach"),
}


def one_by_one(run: Callable[[], None], count: int) -> dict[str, float]:
    """Return microseconds per update of uncompiled updates by group, and of the wall clock."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    for _ in range(count):
        run()
    wall = (time.perf_counter() - start) / count
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        start = time.perf_counter()
        for _ in range(count):
            run()
        profiled = (time.perf_counter() - start) / count
    found = dict.fromkeys(GROUPS, 0.0) | {"other operators": 0.0}
    for event in seen.key_averages():
        if not event.key.startswith(("aten::", "autograd::", "torch::")):
            continue
        group = next((g for g, keys in GROUPS.items() if event.key.startswith(keys)), None)
        found[group or "other operators"] += event.self_cpu_time_total / count * wall / profiled
    named = {name: value / UPDATES_PER_STEP for name, value in found.items()}
    clock = 1e6 * wall / UPDATES_PER_STEP
    return named | {"Python": clock - sum(named.values()), "wall clock": clock}


def _per_update(seconds: float) -> float:
    return 1e6 * seconds / UPDATES_PER_STEP


def spent(plain: Built, seen: Written, stamped: Built, chunks: int) -> dict[str, float]:
    """Return microseconds of an update by kind.

    Args:
        plain: The program as it is.
        seen: What it is made of.
        stamped: The program with clocks.
        chunks: To measure with.

    Returns:
        One number a kind; they sum to the wall clock of an update through ``Trainer.fit``.
    """
    for _ in range(3):
        plain.run()
    start, before = time.perf_counter(), plain.program()
    for _ in range(chunks):
        plain.run()
    called = _per_update((time.perf_counter() - start) / chunks)
    program = _per_update((plain.program() - before) / chunks)
    start = time.perf_counter()
    for _ in range(chunks):
        plain.read()
    read = _per_update((time.perf_counter() - start) / chunks)
    times, whole = seen.microseconds(stamped, UPDATES_PER_STEP, chunks)
    found = dict.fromkeys(KINDS, 0.0)
    for number, (kind, taken) in enumerate(zip(seen.kinds(), times, strict=True)):
        # What threads share, all of them are busy with; the rest is one thread's.
        share = 1 if number in seen.shared else 1 / seen.threads
        found[kind] += taken * share * program / whole
    found[WAIT] = program - sum(found.values())
    return found | {
        CALL: called - program,
        ROWS: read,
        LOOP: _per_update(plain.fitted) - called - read,
    }


def work(seen: Written) -> dict[str, float]:
    """Return operations of the products, and bytes of the loops and of Adam."""
    found = dict.fromkeys((PRODUCTS, LOOPS, ADAM), 0.0)
    for operation, kind in zip(seen.operations, seen.kinds(), strict=True):
        if kind in found:
            found[kind] += flops_of(operation) if kind == PRODUCTS else bytes_of(operation)
    return found


def least(seen: Written, machine: Limits) -> dict[str, float]:
    """Return the least microseconds of each kind, all threads busy."""
    did = work(seen)
    rates = {
        PRODUCTS: machine.operations,
        LOOPS: machine.bytes[seen.room],
        ADAM: machine.bytes[seen.state],
    }
    return {kind: 1e6 * did[kind] / rate / seen.threads for kind, rate in rates.items()}


def measured(size: Size, threads: int, repeats: int, each: bool) -> tuple[Written, list[Any]]:
    """Return what an update is made of, and its times by kind, one entry a repeat."""
    chunks = CHUNKS[size.name]
    with written() as seen:
        stamped = built(size, "update", threads=threads)
    found = []
    for _ in range(repeats):
        plain = built(size, "update", chunks=chunks, threads=threads)
        found.append(spent(plain, seen, stamped, chunks))
    if each:
        times, _ = seen.microseconds(stamped, UPDATES_PER_STEP, chunks)
        for operation, kind, taken in zip(seen.operations, seen.kinds(), times, strict=True):
            did = flops_of(operation) if kind == PRODUCTS else bytes_of(operation)
            what = " ".join(operation.call.split()).partition("(const")[0][-90:]
            say(f"{kind:<18}{taken:>9.2f} us {did / taken / 1e3:>7.1f} G/s  {what}")
    return seen, found


def cell(kind: str, taken: float, did: dict[str, float]) -> str:
    """Return a time, and the rate where there is one."""
    if kind not in did:
        return f"{taken:,.1f}"
    unit = "GFLOP/s" if kind == PRODUCTS else "GB/s"
    return f"{taken:,.1f} ({did[kind] / taken / 1e3:.0f} {unit})"


def columns(
    case: tuple[Size, int], seen: Written, machine: Limits, times: Sequence[dict[str, float]]
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Return two cells a kind, and the rows of the file."""
    did, floor = work(seen), least(seen, machine)
    cells, rows = [], []
    for kind in times[0]:
        values = [found[kind] for found in times]
        middle = statistics.median(values)
        cells.append([cell(kind, middle, did), f"{floor[kind]:,.1f}" if kind in floor else ""])
        rows.append(
            {"name": f"{case[0].name}, {case[1]} thread(s), {kind}", "mean": middle}
            | {"low": min(values), "high": max(values), "seeds": 1, "least": floor.get(kind)}
        )
    whole = statistics.median(sum(found.values()) for found in times)
    return [*cells, [f"{whole:,.1f}", f"{sum(floor.values()):,.1f}"]], rows


def of_machine(machine: Limits) -> str:
    """Return the limits in words."""
    rates = (f"{r / 1e9:.0f} GB/s in {size / 2**20:.1f} MB" for size, r in machine.bytes.items())
    return f"One core: {machine.operations / 1e9:.0f} GFLOP/s; {', '.join(rates)}."


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--each", action="store_true", help="print every operation")
    parser.add_argument("--no_document", action="store_true", help="write no page")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    quiet()
    begun, found, rows = time.perf_counter(), {}, []
    tries = [limits(MEMORY)]
    for case in CASES:
        seen, times = found[case] = measured(*case, asked.repeats, asked.each)
        tries.append(limits({seen.room, seen.state}))
    tries += [limits(each.bytes) for each in tries]  # again: whatever else runs, slows one down
    machine = best(tries)
    header, parts = ["microseconds of an update"], []
    for case, (seen, times) in found.items():
        cells, lines = columns(case, seen, machine, times)
        header += [f"{case[0].name}, {case[1]} thread{'s'[: case[1] - 1]}", "at least"]
        parts.append(cells)
        rows += lines
    names = [*next(iter(found.values()))[1][0], "**through `Trainer.fit`**"]
    text = table(
        header,
        [[name, *(x for p in parts for x in p[number])] for number, name in enumerate(names)],
    )
    text += "\n\n" + of_machine(machine)
    say(text)
    alone = one_by_one(chunk_of(S, "off"), 2)
    say("\nS, one operator after another: " + ", ".join(f"{k} {v:,.0f}" for k, v in alone.items()))
    seconds = (time.perf_counter() - begun) / len(rows)
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "where.json", json.dumps([r | {"seconds": seconds} for r in rows], indent=1))
    if not asked.no_document:
        replace_part(ROOT / "docs" / "speed.md", "where", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
