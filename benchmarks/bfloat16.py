"""Products of an update in bfloat16 beside float32 (IQL, TD3+BC): time, error, final scores.

    python benchmarks/bfloat16.py [speed] [scores] [--repeats 7] [--data FOLDER] [--document]

``speed``: updates of both in turns, and beside them those of the trainer's bf16-mixed; how far one
update's gradient is from that of float32, in shares of its length. ``scores``: five seeds of both
from the same weights and on the same batches, 5,000 updates of networks of 2 x 256, on a log of
Pendulum below HINDSIGHT_DATA and two robots' of ``make logs``; fits are kept in build/results.
Without a word both are done. Writes build/bfloat16.json and two tables of docs/speed.md;
``--document`` writes the tables alone.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parent / "course"))

from bench import UPDATES_PER_STEP
from narrow import FROM_ZERO, Try, check_logs, method, robot
from results import SEEDS, replace_part, work
from rows import MEDIUM, Row
from shared import BUILD, ROOT, interval, quiet, say, silent_trainer, spread, table
from sizes import L, S, Size, as_log, make_log
from where import chunk_of

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.files import write_text
from hindsight_rl.nets.network import Network

KINDS = ("highest", "bfloat16")
WIDE = Size("2 x 512, batch 512", 17, 6, (512, 512), 512)
CASES = ((S, 1), (L, 1), (L, 2), (WIDE, 1), (WIDE, 2))
UPDATES = 5_000
NETWORK = Network(hidden=(256, 256))


def paired(runs: list[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Return seconds of each function, in turns; each takes a fifth of a second at least."""
    counts = []
    for run in runs:
        run()
        begun = time.perf_counter()
        run()
        counts.append(max(1, int(0.2 / (time.perf_counter() - begun))))
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, count, times in zip(runs, counts, found, strict=True):
            begun = time.perf_counter()
            for _ in range(count):
                run()
            times.append((time.perf_counter() - begun) / count)
    return found


def gradient(size: Size, precision: str) -> torch.Tensor:
    """Return the gradient of the first update, a tenth of it: Adam's first moment after that."""
    data = as_log(make_log(size))
    module = OfflineDataModule(data, batch_size=size.batch_size, updates_per_step=1)
    torch.manual_seed(0)
    options: Any = {"compile": "update", "threads": 1, "matmul_precision": precision}
    trainer = silent_trainer(1)
    trainer.fit(IQL(module.spec, network=Network(hidden=size.hidden), **options), module)
    (optimizer,) = trainer.optimizers
    return torch.cat([entry["exp_avg"].flatten() for entry in optimizer.state.values()])


def speed(repeats: int) -> list[dict[str, Any]]:
    """Return a row for each size and number of threads."""
    rows = []
    for size, threads in CASES:
        begun = time.perf_counter()
        runs = [chunk_of(size, "update", threads=threads, matmul_precision=k) for k in KINDS]
        runs.append(chunk_of(size, "update", threads=threads, precision="bf16-mixed"))
        plain, rounded, mixed = paired(runs, repeats)
        ratios = sorted(one / two for one, two in zip(plain, rounded, strict=True))
        exact, near = (gradient(size, kind) for kind in KINDS)
        rows.append(
            {
                "name": f"{size.name}, {threads} thread{'s' * (threads > 1)}",
                "mean": statistics.median(ratios),
                "low": ratios[0],
                "high": ratios[-1],
                "seeds": 1,
                "seconds": time.perf_counter() - begun,
                "rates": [
                    UPDATES_PER_STEP / statistics.median(each) for each in (plain, rounded, mixed)
                ],
                "error": float((near - exact).norm() / exact.norm()),
            }
        )
        say(f"{rows[-1]['name']}: {rows[-1]['rates']} {rows[-1]['mean']:.2f}")
    return rows


def scores(data: Path) -> list[dict[str, Any]]:
    """Return a row for each log, learner and kind of products, and for the paired difference."""
    robots = [robot(name, "medium", FROM_ZERO, UPDATES) for name in ("hopper", "halfcheetah")]
    logs = [replace(MEDIUM, updates=UPDATES), *robots]
    (BUILD / "results").mkdir(parents=True, exist_ok=True)
    rows = []
    for log, name in [(log, name) for log in logs for name in ("IQL", "TD3+BC")]:
        methods = [method(name, network=NETWORK, matmul_precision=kind) for kind in KINDS]
        pair = [Row(log, each) for each in methods]
        check_logs([Try(row, "", True) for row in pair], data)
        found = [work((row, SEEDS, data, False)) for row in pair]
        both = [each["scores"] for each in found]
        kinds = {**dict(zip(KINDS, both, strict=True)), "difference": differences(both)}
        seconds = [*(each["seconds"] for each in found), 0.0]
        for (kind, values), taken in zip(kinds.items(), seconds, strict=True):
            numbers = dict(zip(("mean", "low", "high"), interval(values), strict=True))
            about = {"log": log.name, "method": name, "kind": kind, "scores": values}
            about |= {"seeds": len(SEEDS), "seconds": taken}
            rows.append({"name": f"{log.name}, {name}, {kind}", **numbers, **about})
            say(f"{rows[-1]['name']}: {spread(rows[-1])}")
    return rows


def differences(both: list[list[float]]) -> list[float]:
    """Return what the second scores are above the first, seed by seed."""
    return [two - one for one, two in zip(*both, strict=True)]


def document_speed(rows: list[dict[str, Any]]) -> None:
    """Write the table of times and errors."""
    cells = [
        [row["name"], *(f"{rate:,.{0 if rate > 100 else 1}f}" for rate in row["rates"])]
        + [f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]", f"{row['error']:.1e}"]
        for row in rows
    ]
    rates = ["float32, updates/s", "bfloat16", "bf16-mixed"]
    head = ["IQL", *rates, "bfloat16 / float32 [least, most]", "gradient off by"]
    replace_part(PAGE, "bfloat16", table(head, cells))


def document_scores(rows: list[dict[str, Any]]) -> None:
    """Write the table of scores."""
    cells = []
    for start in range(0, len(rows), 3):
        plain, rounded, difference = rows[start : start + 3]
        within = plain["low"] <= rounded["mean"] <= plain["high"]
        cells.append([plain["log"], plain["method"], *map(spread, (plain, rounded, difference))])
        cells[-1].append("yes" if within else "no")
    head = ["log", "learner", "float32", "bfloat16", "difference, paired", "within the interval"]
    replace_part(PAGE, "bfloat16 scores", table(head, cells))


def main() -> int:
    """Measure what is asked for, write and document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*DOCUMENTS, []], help="both if none is named")
    parser.add_argument("--repeats", type=int, default=7)
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of real logs")
    parser.add_argument("--document", action="store_true", help="write the tables alone")
    asked = parser.parse_args()
    quiet()
    path = BUILD / "bfloat16.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for part in asked.parts or DOCUMENTS:
        if not asked.document:
            found = speed(asked.repeats) if part == "speed" else scores(asked.data)
            rows = [row for row in rows if row["part"] != part]
            rows += [row | {"part": part} for row in found]
            BUILD.mkdir(exist_ok=True)
            write_text(path, json.dumps(rows, indent=1))
        DOCUMENTS[part]([row for row in rows if row["part"] == part])
    return 0


PAGE = ROOT / "docs" / "speed.md"
DOCUMENTS = {"speed": document_speed, "scores": document_scores}

if __name__ == "__main__":
    raise SystemExit(main())
