"""``hindsight fit`` and the like in this process, on a log for CartPole, with tiny networks.

Imported as ``command_fits`` (``tests`` is on pytest's path).
"""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from hindsight_rl.cli.main import main

EPISODES, LENGTH = 10, 20


class Ended(NamedTuple):
    """How a command ended: exit code, and what it wrote to standard output and error."""

    code: int
    out: str
    err: str


def cart_log(path: Path, **changed: Any) -> Path:
    """Write a log of ten episodes of CartPole's shape, random numbers, and return its path.

    Every second episode falls over, the others run out of time.
    """
    draw = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    last = np.arange(rows) % LENGTH == LENGTH - 1
    falls = np.arange(rows) // LENGTH % 2 == 0
    columns = {
        "observations": draw.normal(size=(rows, 4)).astype(np.float32),
        "actions": draw.integers(0, 2, rows),
        "rewards": draw.normal(size=rows).astype(np.float32),
        "terminals": last & falls,
        "timeouts": last & ~falls,
    }
    np.savez(path, **columns | changed)
    return path


def hindsight(*words: object) -> Ended:
    """Run a command in this process and return how it ended."""
    out, err = io.StringIO(), io.StringIO()
    line = [str(word) for word in words]
    # Lightning reads the words of the process, and leaves its seed in the environment.
    with (
        patch.object(sys, "argv", ["hindsight", *line]),
        patch.dict(os.environ),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code = main(line)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def fit_words(
    *words: object, config: str = "iql", log: Path | str = "log.npz", updates: int = 60
) -> list[str]:
    """Return the words of a small ``fit``; further words come last."""
    plain = [
        *("fit", "--config", config, "--data.source", log, "--trainer.max_steps", updates),
        *("--trainer.accelerator", "cpu", "--model.init_args.network.hidden", "[8]"),
        *(
            "--model.init_args.evaluation.episodes",
            2,
            "--model.init_args.evaluation.test_episodes",
            3,
        ),
        *("--data.batch_size", 8, "--data.updates_per_step", 8, "--checkpoint_every", 25),
    ]
    return [str(word) for word in (*plain, *words)]


def fit(*words: object, **options: Any) -> Ended:
    """Run :func:`fit_words`."""
    return hindsight(*fit_words(*words, **options))


def refused(ended: Ended, code: int = 2) -> str:
    """Return what is told of a mistake: one line, after the plan of updates and warnings if any."""
    assert ended.code == code and ended.out == "", ended
    assert "Traceback" not in ended.err
    other = ("updates: ", "warning: ")
    lines = [line for line in ended.err.splitlines() if not line.startswith(other)]
    assert len(lines) == 1 and lines[0].startswith("error: "), ended.err
    return f"{lines[0]}\n"


def start(*words: object, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own, in a folder."""
    known = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "RANK")}
    return subprocess.Popen(
        [sys.executable, "-m", "hindsight_rl.cli.main", *(str(word) for word in words)],
        cwd=folder,
        env=known | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_once(process: subprocess.Popen[str], path: Path, seconds: float = 120.0) -> None:
    """Kill a process as soon as a file exists."""
    end = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.kill()
    _, told = process.communicate()
    assert process.returncode == -signal.SIGKILL, told


def checkpoints(run: Path) -> dict[str, int]:
    """Return the names of a run's checkpoints and the updates they hold."""
    return {
        path.name: torch.load(path, weights_only=True)["global_step"]
        for path in sorted((run / "checkpoints").glob("*.ckpt"))
    }
