"""Memory and speed on logs that lie on disk: IQL, one fresh process per measurement.

    python benchmarks/memory.py [--rows 1000000 5000000 20000000] [--width 200] [--seconds 10]
        [--repeats 3]

A row has 200 bytes (observation 21, action 2), so that 20 million are 4 GB; the networks are those
of size S, where reading weighs most. Every log is written once, a slice at a time, and read by
pairs of processes, memory-mapped and in memory, the other one first in every second pair. Printed
are medians; the ratio is the median of those of the pairs. Private memory is the largest RssAnon of
the mapped runs, imports included; "files" is RssFile, pages of files that the kernel may drop
at any time. The page cache is warm: loading checks every value.
"""

import argparse
import json
import logging
import shutil
import statistics
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from shared import silent_trainer
from sizes import S, as_log, make_log

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.append import append
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network

SLICE = 200_000  # rows of ``make_log``
OTHERS = 8  # words of a row beside the observation and the next one
MIB = 1 << 10  # /proc counts in KiB


def write(folder: Path, rows: int, width: int) -> None:
    """Write a log of rows of so many bytes; never more than a slice of it is in memory."""
    shutil.rmtree(folder, ignore_errors=True)
    part = as_log(make_log(S._replace(observation=(width // 4 - OTHERS) // 2)))
    part.save(folder)
    append(folder, (part for _ in range(rows // SLICE - 1)))


class Watch(threading.Thread):
    """Keeps the largest private and mapped memory of this process, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.private = self.mapped = 0

    def run(self) -> None:
        """Look ten times a second."""
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            found = {line.split(":")[0]: line.split()[1] for line in lines if line[:3] == "Rss"}
            self.private = max(self.private, int(found["RssAnon"]) // MIB)
            self.mapped = max(self.mapped, int(found["RssFile"]) // MIB)
            time.sleep(0.1)


class Clock(Callback):
    """Counts updates for some seconds after the first ones, then stops."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.first, self.rate = seconds, 0.0, 0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Look at the clock after each chunk."""
        now = time.perf_counter()
        if trainer.global_step < 512:
            return
        if not self.start:
            self.start, self.first = now, trainer.global_step
        elif now - self.start > self.seconds:
            self.rate = (trainer.global_step - self.first) / (now - self.start)
            trainer.should_stop = True


def measure(folder: str, batch: int, seconds: float, mapped: bool, validation: float) -> None:
    """Train in this process and write the numbers as JSON."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    watch, clock = Watch(), Clock(seconds)
    watch.start()
    source: Any = folder if mapped else Log.load(folder, memory_map=False)
    data = OfflineDataModule(source, batch_size=batch, validation=validation)
    silent_trainer(1 << 40, limit_val_batches=0, callbacks=[clock]).fit(
        IQL(data.spec, network=Network(hidden=S.hidden)), data
    )
    found = {"rate": clock.rate, "private": watch.private, "mapped": watch.mapped}
    sys.stdout.write(json.dumps(found) + "\n")


def fresh(folder: Path, batch: int, mapped: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of one fresh process."""
    command = [sys.executable, __file__, "--measure", str(folder), "--batch", str(batch)]
    command += ["--seconds", str(options.seconds), "--validation", str(options.validation)]
    done = subprocess.run(
        command + ["--mapped"] * mapped, check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pair(
    folder: Path, batch: int, number: int, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numbers of two fresh processes, mapped and in memory; who is first alternates."""
    ways = (True, False) if number % 2 == 0 else (False, True)
    found = {mapped: fresh(folder, batch, mapped, options) for mapped in ways}
    return found[True], found[False]


def main() -> int:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--width", type=int, default=200, help="bytes of a row")
    parser.add_argument("--batch", type=int, nargs="+", default=[256])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements")
    parser.add_argument("--validation", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, default=Path("build/memory"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--mapped", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        batch = options.batch[0]
        measure(options.measure, batch, options.seconds, options.mapped, options.validation)
        return 0
    titles = (
        "rows",
        "batch",
        "file MB",
        "mapped/s",
        "memory/s",
        "ratio",
        "private MiB",
        "files MiB",
    )
    sys.stdout.write("".join(f"{title:>12}" for title in titles) + "\n")
    try:
        for rows in options.rows:
            write(options.folder / "log", rows, options.width)
            megabytes = (options.folder / "log" / "matrix.bin").stat().st_size / 1e6
            for batch in options.batch:
                pairs = [
                    pair(options.folder / "log", batch, number, options)
                    for number in range(options.repeats)
                ]
                ratio = statistics.median(one["rate"] / two["rate"] for one, two in pairs)
                mapped, memory = (statistics.median(p[i]["rate"] for p in pairs) for i in (0, 1))
                sys.stdout.write(
                    f"{rows:>12,}{batch:>12}{megabytes:>12,.0f}{mapped:>12,.0f}{memory:>12,.0f}"
                    f"{ratio:>12.2f}{max(one['private'] for one, _ in pairs):>12}"
                    f"{max(one['mapped'] for one, _ in pairs):>12,}\n"
                )
                sys.stdout.flush()
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
