"""A tiny log of two entries, a camera and a state.

Imported as ``entry_logs`` (``tests`` is on pytest's path).
"""

from typing import Any

import numpy as np

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import Key
from hindsight_rl.logs.log import Log

EPISODES, STEPS = 4, 5
CAMERA, STATE = ("observation", "front"), ("observation", "state")


def entry_log() -> Log:
    """Return 4 episodes of 5 steps: a camera of 8 x 8, of whole episodes, and a state."""
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
    return Log.from_columns(columns, {"action": {"low": [-1.0], "high": [1.0]}})


def entry_data(**options: Any) -> OfflineDataModule:
    """Return a datamodule of that log."""
    return OfflineDataModule(
        entry_log(), **{"batch_size": 8, "updates_per_step": 4, "seed": 1} | options
    )
