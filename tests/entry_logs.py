"""A tiny log of two entries, a camera and a state.

Imported as ``entry_logs`` (``tests`` is on pytest's path).
"""

from typing import Any

import numpy as np
import torch

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import Key
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.returns import returns_to_go

EPISODES, STEPS = 4, 5
CAMERA, STATE = ("observation", "front"), ("observation", "state")


def entry_log(*, returns: bool = False) -> Log:
    """Return 4 episodes of 5 steps: a camera of 8 x 8, of whole episodes, and a state.

    Args:
        returns: Add the return to go, as a column and as the task.

    Returns:
        The log.
    """
    draw, rows = np.random.default_rng(0), EPISODES * STEPS
    columns: dict[Key, np.ndarray] = {
        STATE: draw.normal(size=(rows, 2)).astype(np.float32),
        CAMERA: draw.integers(0, 256, (rows + EPISODES, 8, 8, 3)).astype(np.uint8),
        "action": draw.uniform(-1, 1, (rows, 1)).astype(np.float32),
        ("next", *STATE): draw.normal(size=(rows, 2)).astype(np.float32),
        ("next", "reward"): draw.normal(size=rows).astype(np.float32),
        ("next", "terminated"): np.zeros(rows, bool),
        ("next", "truncated"): np.arange(rows) % STEPS == STEPS - 1,
        "episode": np.repeat(np.arange(EPISODES), STEPS),
    }
    if returns:
        ends = torch.from_numpy(columns["next", "truncated"])
        rewards = torch.from_numpy(columns["next", "reward"])
        to_go = returns_to_go(rewards, ends, 1.0).numpy().astype(np.float32)
        columns |= {"return_to_go": to_go, "task": to_go[:, None]}
    return Log.from_columns(columns, {"action": {"low": [-1.0], "high": [1.0]}})


def entry_data(*, returns: bool = False, **options: Any) -> OfflineDataModule:
    """Return a datamodule of that log, with or without returns to go as tasks."""
    options = {"batch_size": 8, "updates_per_step": 4, "seed": 1} | options
    return OfflineDataModule(entry_log(returns=returns), **options)
