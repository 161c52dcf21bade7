"""Memory and time of the commands on logs of millions of rows: one fresh process each.

    python benchmarks/rows_memory.py [--rows 2000000 20000000] [--only inspect fit] [--keep]

A row has 17 observed numbers, 6 actions, what was achieved (2) and a task (2): 52 words, 208 bytes,
so that 20 million are 4.2 GB. Every command runs as a user gives it. Its memory, and that of the
processes it starts, is looked at twenty times a second: private is RssAnon, which the system cannot
take back; files is RssFile and RssShmem, pages of mapped files that the kernel drops when others
need the room (a page that two processes map is counted in both). The law is the line through the
smallest and the largest log: private bytes a row, beside what the command takes for any log. Logs
lie in build/rows and are removed; 20 million rows need 20 GB of disk for a while.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from shared import BUILD, say

from hindsight_rl.logs.append import append
from hindsight_rl.logs.log import Log

SLICE = 200_000  # rows that are made together
LENGTH = 200  # steps of an episode
WORDS = 52
GOALS = "{class_path: GoalReaching, init_args: {radius: 0.3, kind: dense}}"
CONFIGS = {
    "future": f"relabel: [{{class_path: FutureGoal, init_args: {{family: {GOALS}}}}}]",
    "inverse": f"relabel: [{{class_path: InverseRL, init_args: {{family: {GOALS}}}}}]",
}


class Peak(NamedTuple):
    """What a command took."""

    seconds: float
    private: float
    """MiB."""
    files: float
    """MiB."""


def part(number: int) -> Log:
    """Return a slice of the log: walks between random goals."""
    draw = torch.Generator().manual_seed(number)
    shape = (SLICE // LENGTH, LENGTH + 1, 17)
    walk = torch.randn(shape, generator=draw).mul_(0.1).cumsum(1)
    now, after = walk[:, :-1].reshape(SLICE, 17), walk[:, 1:].reshape(SLICE, 17)
    last = torch.arange(SLICE) % LENGTH == LENGTH - 1
    columns: dict[Any, Any] = {
        "observation": now,
        "action": torch.rand((SLICE, 6), generator=draw) * 2 - 1,
        ("next", "observation"): after,
        ("next", "reward"): torch.rand(SLICE, generator=draw),
        ("next", "terminated"): torch.zeros(SLICE, dtype=torch.bool),
        ("next", "truncated"): last,
        "task": torch.randn((SLICE // LENGTH, 2), generator=draw).repeat_interleave(LENGTH, 0),
        "achieved_goal": now[:, :2],
        ("next", "achieved_goal"): after[:, :2],
        "episode": torch.arange(SLICE) // LENGTH,
    }
    info = {"source": "walks", "action": {"low": [-1.0] * 6, "high": [1.0] * 6}}
    return Log.from_columns(columns, info)


def write(folder: Path, rows: int) -> None:
    """Write a log; never more than a slice of it is in memory."""
    part(0).save(folder)
    append(folder, (part(number) for number in range(1, rows // SLICE)))


def commands(folder: Path, rows: int) -> dict[str, tuple[list[str], Path | None]]:
    """Return the words of each command, and what it writes that may be removed."""
    log, made = str(folder / "log"), folder / "made"
    fit = ["fit", "--config", "iql", "--data.source", log, "--run", str(made)]
    relabel = ["relabel", log, "--output", str(made), "--config"]

    def updates(count: int) -> list[str]:
        return [*fit, "--trainer.max_steps", str(count), "--checkpoint_every", "1000000"]

    found: dict[str, tuple[list[str], Path | None]] = {
        "write": (["--write", log, str(rows)], None),
        "inspect": (["inspect", log], None),
        "fit, 1 update": (updates(1), made),
        "fit, 1,000 updates": (updates(1000), made),
    }
    for name, what in (("future", "FutureGoal"), ("inverse", "InverseRL, 32 tasks")):
        words = [*relabel, str(folder / f"{name}.yaml")]
        found[f"relabel, {what}"] = (words, made)
        found[f"relabel, {what}, 2 shards"] = ([*words, "--shards", "2"], made)
    output = ["--to", "parquet", "--output", str(made)]
    found["convert --to parquet"] = (["convert", log, *output], made)
    return found


def family_of(number: int) -> list[int]:
    """Return a process and those it started, by their numbers."""
    found = [number]
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family_of(int(child))
    return found


def memory(number: int) -> tuple[float, float]:
    """Return private and mapped memory of a process and its children, MiB."""
    private = files = 0
    for each in family_of(number):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            private += int(value.split()[0]) if name == "RssAnon" else 0
            files += int(value.split()[0]) if name in ("RssFile", "RssShmem") else 0
    return private / 1024, files / 1024


def measured(words: list[str]) -> Peak:
    """Return what a command took; it must end well."""
    begin = [__file__] if words[0] == "--write" else ["-m", "hindsight_rl.cli.main"]
    began, private, files = time.monotonic(), 0.0, 0.0
    process = subprocess.Popen(
        [sys.executable, *begin, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        try:
            now = memory(process.pid)
        except (FileNotFoundError, ProcessLookupError):  # one has ended meanwhile
            continue
        private, files = max(private, now[0]), max(files, now[1])
        time.sleep(0.05)
    if process.returncode:
        assert process.stderr is not None
        raise RuntimeError(f"{' '.join(words)}: {process.stderr.read().decode()[-2000:]}")
    return Peak(time.monotonic() - began, private, files)


def law(peaks: dict[int, Peak]) -> float:
    """Return the private bytes that a further row takes."""
    few, many = min(peaks), max(peaks)
    return (peaks[many].private - peaks[few].private) * 2**20 / max(1, many - few)


def run(folder: Path, sizes: list[int], only: list[str]) -> dict[str, dict[int, Peak]]:
    """Return the peaks of every command for every number of rows."""
    found: dict[str, dict[int, Peak]] = {}
    for rows in sizes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in CONFIGS.items():
            (folder / f"{name}.yaml").write_text(text)
        for name, (words, made) in commands(folder, rows).items():
            if name != "write" and only and not any(part in name for part in only):
                continue
            peak = measured(words)
            found.setdefault(name, {})[rows] = peak
            say(f"{rows:>11,} rows  {name:<36}" + "".join(f"{value:>9,.0f}" for value in peak))
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
    return found


def table(found: dict[str, dict[int, Peak]]) -> str:
    """Return the table of docs/scaling.md."""
    largest = max(rows for peaks in found.values() for rows in peaks)
    lines = [
        f"| {largest / 1e6:g} million rows | seconds | private MiB | files MiB | bytes a row |",
        "|---|---|---|---|---|",
    ]
    for name, peaks in found.items():
        peak = peaks[largest]
        few, more = f"{peak.private:,.0f}", f"{peak.files:,.0f}"
        lines.append(f"| {name} | {peak.seconds:,.0f} | {few} | {more} | {law(peaks):.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print the table, and write build/rows.json."""
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000_000, 20_000_000])
    parser.add_argument("--only", nargs="+", default=[], help="commands whose name holds this")
    parser.add_argument("--folder", type=Path, default=BUILD / "rows")
    options = parser.parse_args()
    try:
        found = run(options.folder, options.rows, options.only)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    say(table(found))
    kept = [
        {"name": f"{name}, {rows} rows", "mean": peak.private, "low": peak.private,
         "high": peak.private, "seeds": 1, "seconds": peak.seconds, "files": peak.files}
        for name, peaks in found.items() for rows, peak in peaks.items()
    ]  # fmt: skip
    (BUILD / "rows.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
