"""Rows for a replay that show where they come from, and datamodules that begin with a log.

Imported as ``small_replays`` (``tests`` is on pytest's path).
"""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.logs.log import Log

REACH, WALK = "tiny_envs:Tiny/Reach-v0", "tiny_envs:Tiny/Walk-v0"
ROUNDS: dict[str, Any] = {  # whose replay is soon full
    "env": REACH,
    "initial_episodes": 6,
    "episodes_per_round": 4,
    "capacity": 60,
    "batch_size": 16,
    "updates_per_step": 8,
    "explore": 0.2,
}
INFO = {"source": "somewhere", "discrete_actions": 9}


def iterated(env: Any, relabel: Any = None, **options: Any) -> IteratedDataModule:
    """Return a datamodule; what belongs to its collection stands beside the other arguments."""
    names = {field.name for field in fields(Collection)} & set(options)
    collection = Collection(**{name: options.pop(name) for name in names})
    return IteratedDataModule(env, relabel, collection=collection, **options)


def columns(first: int, rows: int) -> dict[Any, Tensor]:
    """Return the columns of rows numbered from ``first``."""
    number = torch.arange(first, first + rows)
    return {
        "observation": torch.stack([number, 10 * number], dim=1).float(),
        "action": number % 7,
        ("next", "observation"): torch.stack([number + 1, 10 * number + 10], dim=1).float(),
        ("next", "reward"): number / 4,
        ("next", "terminated"): number % 3 == 0,
        ("next", "truncated"): number % 5 == 0,
    }


def log_of(env: Any = WALK, episodes: int = 8, **info: Any) -> Log:
    """Return a log of random episodes."""
    collector = Collector(env, seed=7, num_envs=2)
    found = collector.collect(None, 0, episodes, None)
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    collector.close()
    return Log.from_columns(found.columns | {"episode": number}, collector.info | info)


def online(log: Log | None, env: Any = WALK, relabel: Any = None, **options: Any) -> Any:
    """Return a small datamodule that begins with a log."""
    plain = {"initial_episodes": 0, "episodes_per_round": 3, "batch_size": 8, "num_envs": 2}
    return iterated(
        env, relabel, source=log, **plain | {"updates_per_step": 5, "seed": 3} | options
    )
