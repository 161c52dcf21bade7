"""Run folders: where a fit leaves its configuration, logs and checkpoints, and how to find them.

runs/iql-001/config.yaml
runs/iql-001/checkpoints/{step=1000.ckpt, best.ckpt, last.ckpt}
runs/iql-001/{metrics, tensorboard}/
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hindsight_rl.training.checkpoints.file import CheckpointError

RUNS = Path("runs")
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"


def global_rank() -> int:
    """Return the number of this process among those of a run, 0 for the first."""
    # Lightning takes seconds, and a sweep only asks for names of files.
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0))  # Lightning keeps it on a function


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
    """Return the checkpoint with the most updates that is whole.

    Args:
        run: Run folder. A cut or damaged checkpoint is passed over, and a line says so.

    Returns:
        The file.

    Raises:
        ValueError: There is none.
    """
    return _newest(run, [])


def chosen_checkpoint(run: Path) -> Path:
    """Return ``best.ckpt`` of a run, or its newest checkpoint where nothing was evaluated.

    Args:
        run: Run folder. A cut or damaged checkpoint is passed over, and a line says so.

    Returns:
        The file.

    Raises:
        ValueError: There is none.
    """
    from hindsight_rl.training.checkpoints.file import CheckpointError, read_checkpoint

    best = run / CHECKPOINTS / "best.ckpt"
    if not best.exists():
        return _newest(run, [])
    try:
        read_checkpoint(best)
    except CheckpointError as error:
        return _newest(run, [error])
    return best


def _newest(run: Path, broken: "list[CheckpointError]") -> Path:
    from hindsight_rl.training.checkpoints.file import newest_good

    found = newest_good(run / CHECKPOINTS)
    known = {error.path for error in broken}
    broken = broken + [error for error in found.broken if error.path not in known]
    instead = "" if found.path is None else f"; {found.path} is taken instead"
    for error in broken if global_rank() == 0 else ():
        sys.stderr.write(f"{error.path}: {error.why}{instead}\n")
    if found.path is None:
        raise ValueError(f"{run}: no readable checkpoint; give a folder that 'fit' wrote")
    return found.path
