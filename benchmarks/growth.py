"""How time and memory of updates grow, beside the law that one would expect (one thread, CPU time).

    python benchmarks/growth.py [--only updates candidates rows] [--rows 200000 20000000]

updates: IQL; from L, one number changes at a time: rows of a batch, units of a layer, critics;
from S, seeds. The law of time is the number of multiplications; that of memory the numbers that
must be held: the state before and after an update, the gradient, what every layer says. Each in a
process of its own, whose private memory stands beside. candidates: inverse RL of transitions (SAC
at L), which scores every row under every one. rows: reading the rows of an update at L from a log
on disk, with no page of it in memory and with all; 20 million take 5 GB of disk for a while. Takes
a quarter of an hour; writes tables of docs/speed.md and build/growth_*.json. Of whole commands see
benchmarks/rows_memory.py.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import relabeling
import rows_memory
from bench import UPDATES_PER_STEP
from chunks import built, microseconds
from results import BUILD, ROOT, replace_part
from shared import quiet, say, table
from sizes import L, S, Size

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.files import write_text
from hindsight_rl.logs.folder import MATRIX

AXES: dict[str, tuple[Size, tuple[int, ...]]] = {
    "rows of a batch": (L, (32, 128, 512, 2048)),
    "units of a layer": (L, (64, 128, 256, 512)),
    "critics": (L, (2, 4, 8, 16)),
    "seeds": (S, (1, 2, 4, 8, 16, 32)),
}
CANDIDATES = (4, 16, 64, 256)
ROWS = (200_000, 1_000_000, 5_000_000, 20_000_000)
Line = tuple[list[str], dict[str, Any]]


def sized(axis: str, value: int) -> tuple[Size, dict[str, Any]]:
    """Return the size and the learner's arguments of one row."""
    size, _ = AXES[axis]
    if axis == "rows of a batch":
        return size._replace(batch_size=value), {}
    if axis == "units of a layer":
        return size._replace(hidden=(value, value)), {}
    return size, {axis: value}


def multiplications(size: Size, critics: int = 2, seeds: int = 1) -> float:
    """Return those of one update: forward, gradients of weights, gradients of inputs."""
    one, two = size.hidden

    def network(inputs: int, outputs: int) -> tuple[int, int]:
        forward = inputs * one + one * two + two * outputs
        return forward, 2 * forward - inputs * one

    both = size.observation + size.action
    q, value, actor = (
        network(both, 1),
        network(size.observation, 1),
        network(size.observation, size.action),
    )
    forward = 2 * critics * q[0] + 2 * value[0] + actor[0]
    backward = critics * q[1] + value[1] + actor[1]
    return float(seeds * size.batch_size * (forward + backward))


def numbers_held(size: Size, critics: int = 2, seeds: int = 1) -> float:
    """Return the numbers an update needs: twice the state, the gradient, outputs of all layers."""
    one, two = size.hidden

    def network(inputs: int, outputs: int) -> int:
        return (inputs + 1) * one + (one + 1) * two + (two + 1) * outputs

    targets = critics * network(size.observation + size.action, 1)
    trained = targets + network(size.observation, 1) + network(size.observation, size.action)
    layers = (2 * critics + 3) * (one + two) * size.batch_size
    return float(seeds * (2 * (3 * trained + targets) + trained + layers))


def update(axis: str, value: int, repeats: int) -> dict[str, float]:
    """Return time and memory of one row; it has this process for itself."""
    size, own = sized(axis, value)
    learner = built(size, "update", **own)
    taken = microseconds(learner.run, repeats, time.process_time)
    held = sum(tensor.numel() * tensor.element_size() for tensor in learner.held())
    private, _ = rows_memory.memory(os.getpid())
    return {"us": taken, "held": held, "private": private * 2**20}


def apart(*words: Any) -> dict[str, float]:
    """Return what this script prints in a process of its own."""
    command = [sys.executable, __file__, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-2000:]}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def row_of(name: str, begun: float, **numbers: float) -> dict[str, Any]:
    """Return a row of the file; the first number is its mean."""
    mean = next(iter(numbers.values()))
    seconds = time.perf_counter() - begun
    return {"name": name, "mean": mean, "low": mean, "high": mean, "seeds": 1} | {
        "seconds": seconds, **numbers
    }  # fmt: skip


def updates(repeats: int) -> tuple[Sequence[str], list[Line]]:
    """Return the table of updates."""
    lines = []
    for axis, (size, values) in AXES.items():
        first: list[float] = []
        for value in values:
            begun = time.perf_counter()
            changed, own = sized(axis, value)
            found = apart("--one", axis, value, repeats)
            laws = multiplications(changed, **own), numbers_held(changed, **own)
            each = [found["us"], laws[0], found["held"], laws[1]]
            first = first or each
            times = [f"{now / then:.1f}" for now, then in zip(each, first, strict=True)]
            cells = [f"{axis} {value}", size.name, f"{each[0]:,.0f}", *times[:2]]
            cells += [f"{each[2] / 1e6:,.1f}", *times[2:], f"{found['private'] / 1e6:,.0f}"]
            lines.append((cells, row_of(cells[0], begun, **found)))
            say(" | ".join(cells))
    head = ("what grows", "from", "us an update", "times", "expected")
    return (*head, "MB of it", "times", "expected", "MB of the process"), lines


def candidates(repeats: int) -> tuple[Sequence[str], list[Line]]:
    """Return the table of inverse RL."""
    lines, first = [], 0.0
    for count in CANDIDATES:
        begun = time.perf_counter()
        bare, taken, _ = relabeling.transitions(L, count, repeats)
        first = first or taken
        expected = count / CANDIDATES[0]
        cells = [str(count), f"{taken:,.0f}", f"{taken / first:.1f}", f"{expected:.1f}"]
        lines.append(([*cells, f"{bare:,.0f}"], row_of(f"candidates {count}", begun, us=taken)))
        say(" | ".join(cells))
    head = ("candidates", "us an update", "times", "expected", "its networks alone, us")
    return head, lines


def drop(matrix: Any, path: Path) -> None:
    """Have the kernel forget a mapped file: every page of it is read from the disk again.

    Raises:
        RuntimeError: Some pages stayed.
    """
    library = ctypes.CDLL(None, use_errno=True)
    begin = matrix.data_ptr() // 4096 * 4096
    span = matrix.data_ptr() + matrix.numel() * matrix.element_size() - begin
    place, length = ctypes.c_void_p(begin), ctypes.c_size_t(span)
    library.madvise(place, length, 4)  # MADV_DONTNEED: no page of it is this process's any more
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    pages = (ctypes.c_ubyte * (-(-span // 4096)))()
    library.mincore(place, length, pages)
    left = sum(page & 1 for page in pages) / len(pages)
    if left > 0.01:
        raise RuntimeError(f"{left:.0%} of {path} stayed in memory")


def reading(folder: Path, repeats: int) -> dict[str, float]:
    """Return the time of reading the rows of an update, with no page in memory and with all."""
    module = OfflineDataModule(
        str(folder), batch_size=L.batch_size, updates_per_step=UPDATES_PER_STEP, prefetch=False
    )
    sampler, matrix = module._sampler(), module.log.blocks[0].matrix

    def chunk(number: int, clock: Callable[[], float]) -> float:
        start = clock()
        sampler.chunk(UPDATES_PER_STEP * number, UPDATES_PER_STEP)
        return 1e6 * (clock() - start) / UPDATES_PER_STEP

    chunk(0, time.perf_counter)
    cold = []
    for number in range(repeats):
        drop(matrix, folder / MATRIX)
        cold.append(chunk(number, time.perf_counter))  # waiting for the disk counts
    matrix.sum()
    warm = [chunk(number, time.process_time) for number in range(20 * repeats)]
    private, _ = rows_memory.memory(os.getpid())
    found = {"warm": statistics.median(warm[repeats:]), "cold": statistics.median(cold)}
    return found | {"private": private * 2**20}


def rows(repeats: int, sizes: Sequence[int]) -> tuple[Sequence[str], list[Line]]:
    """Return the table of logs of many rows."""
    lines, first, folder = [], 0.0, BUILD / "growth"
    for count in sizes:
        begun = time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            rows_memory.write(folder, count)
            found = apart("--read", folder, repeats)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        first = first or found["warm"]
        size = 4e-6 * rows_memory.WORDS * count
        cells = [f"{count / 1e6:g} million", f"{size:,.0f}", f"{found['warm']:,.0f}"]
        cells += [f"{found['warm'] / first:.1f}", "1.0", f"{found['cold']:,.0f}"]
        cells += [f"{found['private'] / 1e6:,.0f}"]
        lines.append((cells, row_of(f"rows of a log {count}", begun, **found)))
        say(" | ".join(cells))
    head = ("rows of a log", "MB", "us an update, in memory", "times", "expected")
    return (*head, "us, from the disk", "MB of the process"), lines


def main() -> int:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=["updates", "candidates", "rows"])
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS, help="multiples of 200,000")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    quiet()
    if asked.one or asked.read:
        axis, *numbers = asked.one or ("",)
        one = update(axis, *map(int, numbers)) if axis else None
        say(json.dumps(one or reading(Path(asked.read[0]), int(asked.read[1]))))
        return 0
    parts: dict[str, Callable[[], tuple[Sequence[str], list[Line]]]] = {
        "updates": lambda: updates(asked.repeats),
        "candidates": lambda: candidates(asked.repeats),
        "rows": lambda: rows(asked.repeats, asked.rows),
    }
    BUILD.mkdir(exist_ok=True)
    for name in asked.only or parts:
        head, lines = parts[name]()
        write_text(BUILD / f"growth_{name}.json", json.dumps([row for _, row in lines], indent=1))
        text = table(head, [cells for cells, _ in lines])
        replace_part(ROOT / "docs" / "speed.md", f"growth of {name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
