"""How long a command takes to start: to the first updates of a fit, and from its start to its end.

    python benchmarks/starting.py [--repeats 5] [--only EXPRESSION]

Processes one after another, timed from outside; medians. First updates: when ``fit`` reports its
first chunk of 64 (IQL, size S, 20,000 rows, 200 updates). "Nothing kept" begins with an empty cache
of the compiler, "kept" with that of an earlier run. docs/speed.md gets the table,
build/starting.json the rows; those that were not measured stay as they are there.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import BUILD, ROOT, replace_part
from shared import interval, say, table
from sizes import S, make_log

from hindsight_rl.files import write_text

ROWS, UPDATES = 20_000, 200
_PROGRESS = re.compile(rb"update [\d,]+ of ")


class Taken(NamedTuple):
    """Seconds of a process: to its first updates, if it makes any, and to its end."""

    first: float | None
    whole: float


def taken(words: Sequence[object], cache: Path) -> Taken:
    """Run a command in a process of its own.

    Args:
        words: After ``hindsight``.
        cache: Folder of the compiler.

    Returns:
        What it took.

    Raises:
        SystemExit: It failed.
    """
    line = [sys.executable, "-m", "hindsight_rl.cli.main", *map(str, words)]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    first: float | None = None
    told = []
    start = time.perf_counter()
    with subprocess.Popen(
        line,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        for said in process.stderr:
            told.append(said)
            if first is None and _PROGRESS.search(said):
                first = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(line)}: {b''.join(told).decode(errors='replace')}")
    return Taken(first, time.perf_counter() - start)


def write_log(path: Path, observation: int, action: int) -> None:
    """Write random transitions."""
    rows: dict[str, Any] = {key: value[:ROWS].numpy() for key, value in make_log(S).items()}
    rows["observation"] = rows["observation"][:, :observation]
    rows["next_observation"] = rows["next_observation"][:, :observation]
    rows["action"] = rows["action"][:, :action]
    rows["terminated"] = rows["terminated"].astype(bool)
    rows["truncated"] = np.arange(ROWS) % 1000 == 999
    np.savez(path, **rows)


def fit_words(log: Path, run: Path, compiled: str, *more: object) -> list[object]:
    """Return the words of a fit of IQL at size S."""
    return [
        *("fit", "--config", "iql", "--data.source", log, "--data.batch_size", S.batch_size),
        *("--model.network.hidden", list(S.hidden), "--model.compile", compiled),
        *("--trainer.max_steps", UPDATES, "--run", run, *more),
    ]


def processes(folder: Path) -> dict[str, Callable[[int], Taken]]:
    """Return what is measured by name, each run by the number of its repeat."""
    log, small, run = folder / "log.npz", folder / "small.npz", folder / "run"
    write_log(log, S.observation, S.action)
    write_log(small, 3, 1)
    taken(fit_words(small, run, "off", "--env", "Pendulum-v1"), folder / "kept")

    def fit(compiled: str, kept: bool = True) -> Callable[[int], Taken]:
        def once(number: int) -> Taken:
            cache = folder / ("kept" if kept else f"empty{number}")
            return taken(fit_words(log, folder / f"{compiled}{kept}{number}", compiled), cache)

        return once

    def whole(*words: object) -> Callable[[int], Taken]:
        return lambda number: taken(words, folder / "kept")

    return {
        "`fit`, nothing kept": fit("update", kept=False),
        "`fit`, kept": fit("update"),
        "`fit`, not compiled": fit("off"),
        "`hindsight --help`": whole("--help"),
        "`fit --help`": whole("fit", "--help"),
        "`sweep --help`": whole("sweep", "--help"),
        "`inspect`": whole("inspect", log),
        "`test`, one episode": whole("test", "--run", run, "--model.evaluation.test_episodes", 1),
        "`export`": whole("export", "--run", run, "--output", folder / "policy.onnx"),
    }


def rows_of(name: str, seen: Sequence[Taken]) -> Iterator[dict[str, Any]]:
    """Return the rows of one kind of process."""
    for what in Taken._fields:
        values = [value for one in seen if (value := getattr(one, what)) is not None]
        if values:
            mean, low, high = interval(values)
            yield {
                **{"name": name, "of": what, "mean": mean, "low": low, "high": high},
                **{"seeds": len(values), "seconds": sum(one.whole for one in seen)},
                "median": statistics.median(values),
            }


def document(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Write the rows, and their medians as the table."""
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "starting.json", json.dumps(rows, indent=1))
    median = {(row["name"], row["of"]): f"{row['median']:.2f}" for row in rows}
    cells = [
        [name, *(median.get((name, what), "") for what in Taken._fields)]
        for name in names
        if (name, "whole") in median
    ]
    text = table(["process", "s to the first updates", "s in all"], cells)
    replace_part(ROOT / "docs" / "speed.md", "starting", text)


def main() -> int:
    """Measure, print, and write the table after every kind of process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="processes whose name this expression finds")
    given = parser.parse_args()
    kept = BUILD / "starting.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        known = processes(Path(folder))
        for name in (name for name in known if re.search(given.only, name)):
            seen = [known[name](number) for number in range(given.repeats + 1)]
            for one in seen:
                say(f"{name:<24}{one.first or 0:>8.2f}{one.whole:>8.2f}")
            # The first one warms up the disk.
            rows = [row for row in rows if row["name"] != name] + [*rows_of(name, seen[1:])]
            document(rows, list(known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
