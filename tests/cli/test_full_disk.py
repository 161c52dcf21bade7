"""A disk that fills while a checkpoint is written: told in a line, nothing lost, and it goes on."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import full_disk_process
import pytest
import torch
from command_fits import Ended, checkpoints, fit, hindsight, refused
from full_disk_process import UPDATES, WORDS

from hindsight_rl.training.checkpoints.file import content_hash

resource = pytest.importorskip("resource")
UNSHARE = ["unshare", "--map-root-user", "--mount"]


def same_end(one: Path, two: Path) -> bool:
    """Return whether the last checkpoints agree to the bit."""
    hashes = []
    for run in (one, two):
        held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        hashes.append(content_hash({key: held[key] for key in held if key != "loops"}))
    return hashes[0] == hashes[1]


def drafts(run: Path) -> list[Path]:
    """Return files that were left half written."""
    return list(run.rglob("*.draft"))


def can_mount(folder: Path) -> bool:
    """Return whether a disk in memory can be mounted here."""
    words = [*UNSHARE, "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a number of bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(place: Path) -> None:
    disk = place / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("no disk in memory can be mounted here")
    script = full_disk_process.__file__
    known = os.environ | {"PYTHONPATH": str(Path(script).parent), "OMP_NUM_THREADS": "1"}
    words = [*UNSHARE, sys.executable, script, str(disk), str(place)]
    subprocess.run(words, env=known, check=True, timeout=600)
    full, gone_on = (Ended(*ended) for ended in json.loads((place / "ended.json").read_text()))
    told = full.err.splitlines()[-1]
    assert full.code == 2 and full.out == "" and "Traceback" not in full.err
    assert told.startswith("error: run/checkpoints/step=75.ckpt cannot be written: No space left")
    assert f"MiB free of 0.1 on the disk of {disk}/run/checkpoints. Make room there." in told
    assert checkpoints(place / "full") == {"step=25.ckpt": 25, "step=50.ckpt": 50}
    assert gone_on.code == 0, gone_on.err
    assert gone_on.err.startswith("resuming run/checkpoints/step=50.ckpt\n")
    assert fit(*WORDS, updates=UPDATES, log=place / "log.npz").code == 0
    assert checkpoints(place / "done") == checkpoints(place / "run")
    assert same_end(place / "done", place / "run")
    assert drafts(place) == []


def test_a_checkpoint_that_does_not_fit(place: Path) -> None:
    with largest_file(20_000):
        told = refused(fit(*WORDS, "--trainer.enable_progress_bar", "false"))
    why = f"cannot be written: {os.strerror(errno.EFBIG)}. Nothing that was there"
    assert told.startswith(f"error: run/checkpoints/step=25.ckpt {why}")
    assert told.endswith("raise the limit of file sizes (ulimit -f)\n")
    assert checkpoints(place / "run") == {} and drafts(place / "run") == []
    again = hindsight("fit", "--resume", "--run", "run")
    assert again.code == 0, again.err
    assert again.err.startswith("run has no checkpoint yet: it starts anew\n")
    assert checkpoints(place / "run") == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}
