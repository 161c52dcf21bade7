"""How the time of a compiled update grows, and the law that one would expect (IQL, one thread).

    python benchmarks/growth.py [--repeats 5]

From L, one number changes at a time: rows of a batch, units of a layer, critics; from S, seeds.
The law is the number of multiplications, beside the first row. docs/speed.md gets the table,
build/growth.json the rows. Of rows of a log see benchmarks/rows_memory.py (``make rows``).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import UPDATES_PER_STEP
from results import BUILD, ROOT, replace_part
from shared import quiet
from sizes import L, S, Size
from where import chunk_of

from hindsight_rl.files import write_text

AXES: dict[str, tuple[Size, tuple[int, ...]]] = {
    "rows of a batch": (L, (32, 128, 512, 2048)),
    "units of a layer": (L, (64, 128, 256, 512)),
    "critics": (L, (2, 4, 8, 16)),
    "seeds": (S, (1, 2, 4, 8, 16, 32)),
}


def sized(axis: str, size: Size, value: int) -> tuple[Size, dict[str, Any]]:
    """Return the size and the learner's arguments of one row."""
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


def microseconds(run: Callable[[], None], repeats: int) -> float:
    """Return the median time of an update, from chunks that take a tenth of a second at least."""
    for _ in range(2):
        run()
    start = time.perf_counter()
    run()
    count = max(1, int(0.1 / (time.perf_counter() - start)))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            run()
        times.append((time.perf_counter() - start) / count / UPDATES_PER_STEP)
    return 1e6 * statistics.median(times)


def main() -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    quiet()
    rows, lines = (
        [],
        ["| what grows | from | us an update | times | expected |", "|---|---|---|---|---|"],
    )
    for axis, (size, values) in AXES.items():
        first: tuple[float, float] | None = None
        for value in values:
            begun = time.perf_counter()
            changed, own = sized(axis, size, value)
            law = multiplications(changed, **own)
            taken = microseconds(chunk_of(changed, "update", **own), repeats)
            first = first or (taken, law)
            times, expected = taken / first[0], law / first[1]
            lines.append(
                f"| {axis} {value} | {size.name} | {taken:,.0f} | {times:.1f} | {expected:.1f} |"
            )
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
            seconds = time.perf_counter() - begun
            rows.append(
                {"name": f"{axis} {value}", "mean": taken, "low": taken, "high": taken}
                | {"seeds": 1, "seconds": seconds, "times": times, "expected": expected}
            )
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "growth.json", json.dumps(rows, indent=1))
    replace_part(ROOT / "docs" / "speed.md", "growth", "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
