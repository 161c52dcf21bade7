"""How a rate of 1 kHz is kept by ``ControlLoop``, with and without real-time options.

    python benchmarks/loop.py [--seconds 20] [--repeats 3] [--document]

Each run is a process of its own with one thread and without PyTorch, as on a robot. Under load, as
many processes as there are cores count as fast as they can, at the same priority. Variants take
turns, so that whatever else the machine does meets all of them; the load average is printed with
each. Writes build/loop.json; ``--document`` puts the table into docs/export.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from shared import BUILD, ROOT, say, table

from hindsight_rl.export.loop import ControlLoop, RealTime
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.files import write_text

RATE = 1000.0
NUMBERS = ("late p50", "late p99", "late max", "step p50", "step p99", "overran", "skipped")
VARIANTS = [(load, real) for load in ("as it is", "under load") for real in (False, True)]


def run(path: Path, seconds: float, real: bool) -> dict[str, Any]:
    """Return how one run went; times in microseconds."""
    policy, drawn = OnnxPolicy(path), np.random.default_rng(0)
    rows = drawn.normal(size=(4096, policy.contract["observation"]["shape"][0])).astype(np.float32)
    state = {"row": 0, "sent": np.zeros(0)}

    def read() -> Any:
        state["row"] = (state["row"] + 1) % len(rows)
        return rows[state["row"]]

    asked = RealTime() if real else None
    loop = ControlLoop(
        policy,
        read,
        lambda action: state.update(sent=action),
        rate=RATE,
        missed_limit=None,
        real_time=asked,
    )
    before = os.getloadavg()[0]
    report = loop.run(seconds=seconds)
    pace = report.pace
    found = (
        *(pace.late.p50, pace.late.p99, pace.late.max, pace.busy.p50, pace.busy.p99),
        *(pace.overran, pace.skipped),
    )
    return dict(zip(NUMBERS, found, strict=True)) | {
        "steps": pace.steps,
        "load": before,
        "denied": list(report.denied),
    }


@contextmanager
def load(count: int) -> Iterator[None]:
    """Keep so many cores busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(1.0 if busy else 0.0)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(path: Path, seconds: float, kind: tuple[str, bool]) -> dict[str, Any]:
    """Return one run in a process of its own."""
    words = [sys.executable, __file__, "--one", str(path), "--seconds", str(seconds)]
    words += ["--real"] if kind[1] else []
    with load((os.cpu_count() or 1) if kind[0] == "under load" else 0):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def report(found: dict[tuple[str, bool], list[dict[str, Any]]], seconds: float) -> list[Any]:
    """Return rows of build/loop.json: medians over the runs, the smallest and the largest."""
    rows = []
    for (where, real), runs in found.items():
        for number in (*NUMBERS, "load"):
            values = [float(one[number]) for one in runs]
            rows.append(
                {
                    "name": f"{where}, {'real time' if real else 'plain'}: {number}",
                    "mean": statistics.median(values),
                    "low": min(values),
                    "high": max(values),
                    "seeds": len(values),
                    "seconds": seconds,
                }
            )
    return rows


def text(found: dict[tuple[str, bool], list[dict[str, Any]]], seconds: float) -> str:
    """Return the table of the page."""
    head = ["machine", "options", "late p50", "p99", "max", "step p50", "p99", "overran", "skipped"]
    lines = []
    for (where, real), runs in found.items():
        cells = [statistics.median(one[number] for one in runs) for number in NUMBERS]
        loads = [one["load"] for one in runs]
        name = f"{where} (load {min(loads):.0f} to {max(loads):.0f})"
        lines.append([name, "`RealTime()`" if real else "none", *(f"{c:,.0f}" for c in cells)])
    denied = sorted({line for runs in found.values() for one in runs for line in one["denied"]})
    said = f" Not granted here: {'; '.join(denied)}." if denied else ""
    count = len(next(iter(found.values())))
    about = (
        f"1 kHz, a 2x256 policy, {seconds:g} s, median of {count} runs each that took turns; times "
        f"in microseconds, of {RATE * seconds:,.0f} ticks. {os.cpu_count()} cores, Linux "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}; other work was "
        f"running, as the load says.{said} `python benchmarks/loop.py --document`:"
    )
    return f"{about}\n\n{table(head, lines)}"


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--document", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--real", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        say(json.dumps(run(given.one, given.seconds, given.real)))
        return 0
    from act import exported

    BUILD.mkdir(exist_ok=True)
    path = exported(BUILD / "loop.onnx")
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {kind: [] for kind in VARIANTS}
    for _ in range(given.repeats):
        for kind in VARIANTS:
            found[kind].append(measured(path, given.seconds, kind))
            say(f"{kind[0]}, {'real time' if kind[1] else 'plain'}: {found[kind][-1]}")
    write_text(BUILD / "loop.json", json.dumps(report(found, given.seconds), indent=1) + "\n")
    shown = text(found, given.seconds)
    say(shown)
    if given.document:
        sys.path.append(str(ROOT / "tools"))
        from documents import placed

        page = ROOT / "docs" / "export.md"
        write_text(page, placed(page.read_text(encoding="utf-8"), "loop", shown))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
