"""Run folders: where a fit leaves its configuration, logs and checkpoints, and how to find them.

runs/iql-001/config.yaml
runs/iql-001/checkpoints/{step=1000.ckpt, best.ckpt, last.ckpt}
runs/iql-001/{metrics, tensorboard}/
"""

import os
import sys
from pathlib import Path

import torch

RUNS = Path("runs")
CONFIG = "config.yaml"


def new_run(name: str, root: Path = RUNS) -> Path:
    """Return the next free folder ``root/name-NNN``."""
    taken = [path.name.removeprefix(f"{name}-") for path in root.glob(f"{name}-*")]
    number = max((int(tail) for tail in taken if tail.isdigit()), default=0) + 1
    return root / f"{name}-{number:03d}"


def newest_run(root: Path = RUNS) -> Path:
    """Return the run folder that was written to last.

    Args:
        root: Folder of runs.

    Returns:
        The folder.

    Raises:
        ValueError: There is none.
    """
    runs = [path.parent for path in root.glob(f"*/{CONFIG}")]
    if not runs:
        raise ValueError(
            f"no run in {root}/ to resume: give --run FOLDER, or start without --resume"
        )
    return max(runs, key=lambda run: max(p.stat().st_mtime for p in run.rglob("*")))


def newest_checkpoint(run: Path) -> Path:
    """Return the checkpoint with the most updates that can be read.

    Args:
        run: Run folder. An unreadable checkpoint is passed over, and a line says so.

    Returns:
        The file.

    Raises:
        ValueError: There is none.
    """
    found: list[tuple[int, Path]] = []
    for path in sorted((run / "checkpoints").glob("*.ckpt")):
        try:
            payload = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            found.append((int(payload["global_step"]), path))
        except Exception as error:  # any way of being broken leads to the file before it
            sys.stderr.write(f"{path}: cannot be read ({type(error).__name__}), passed over\n")
    if not found:
        raise ValueError(f"{run}: no readable checkpoint; give a folder that 'fit' wrote")
    return max(found)[1]


def chosen_checkpoint(run: Path) -> Path:
    """Return ``best.ckpt`` of a run, or ``last.ckpt`` where nothing was evaluated, or the newest.

    Args:
        run: Run folder.

    Returns:
        The file.
    """
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).exists():
            return run / "checkpoints" / name
    return newest_checkpoint(run)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    os.replace(draft, path)
