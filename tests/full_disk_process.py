"""Fits on a small disk until it is full, makes room, and goes on.

    unshare --map-root-user --mount python tests/full_disk_process.py DISK OUT

DISK is a folder over which a disk in memory is mounted, which no other process sees. What came of
it goes to OUT: ``ended.json``, and the run as ``full`` when the disk was, and as ``done``.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from command_fits import Ended, fit, hindsight

# Room for two checkpoints of 52 kB and not for a third; then for all.
SMALL, LARGE = "150k", "4m"
WORDS = ("--run", "run", "--model.init_args.network.hidden", "[32]")
UPDATES = 120


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)


def fill_and_go_on(disk: Path, out: Path, log: Path) -> list[Ended]:
    """Return how the fit ended on the full disk, and how the resumed one did."""
    _mount(disk, f"size={SMALL}")
    os.chdir(disk)
    ends = [fit(*WORDS, log=log, updates=UPDATES)]
    shutil.copytree("run", out / "full")
    _mount(disk, f"remount,size={LARGE}")
    ends.append(hindsight("fit", "--resume", "--run", "run"))
    shutil.copytree("run", out / "done")
    return ends


if __name__ == "__main__":
    found = fill_and_go_on(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[2]) / "log.npz")
    (Path(sys.argv[2]) / "ended.json").write_text(json.dumps(found))
