"""The two problem sizes that speed is measured at, and random transitions of them."""

from typing import NamedTuple

import torch

from hindsight_rl.logs.log import Log

ROWS = 200_000


class Size(NamedTuple):
    """A problem size."""

    name: str
    observation: int
    action: int
    hidden: tuple[int, ...]
    batch_size: int


S = Size("S", 11, 2, (64, 64), 32)
L = Size("L", 17, 6, (256, 256), 256)
SIZES = {size.name: size for size in (S, L)}


def make_log(size: Size) -> dict[str, torch.Tensor]:
    """Return random transitions in episodes of 1000 steps."""
    generator = torch.Generator().manual_seed(0)
    return {
        "observation": torch.randn(ROWS, size.observation, generator=generator),
        "action": torch.rand(ROWS, size.action, generator=generator) * 2 - 1,
        "reward": torch.randn(ROWS, generator=generator),
        "next_observation": torch.randn(ROWS, size.observation, generator=generator),
        "terminated": torch.zeros(ROWS),
    }


def as_log(data: dict[str, torch.Tensor], *, goals: bool = False) -> Log:
    """Return the transitions as a log; its goals are the first three numbers of observations."""
    reached = {
        "achieved_goal": data["observation"][:, :3],
        ("next", "achieved_goal"): data["next_observation"][:, :3],
    }
    return Log.from_columns(
        (reached if goals else {})
        | {
            "observation": data["observation"],
            "action": data["action"],
            ("next", "observation"): data["next_observation"],
            ("next", "reward"): data["reward"],
            ("next", "terminated"): data["terminated"].bool(),
            ("next", "truncated"): torch.zeros(ROWS, dtype=torch.bool),
            "episode": torch.arange(ROWS) // 1000,
        },
        {
            "action": {
                "low": [-1.0] * data["action"].shape[1],
                "high": [1.0] * data["action"].shape[1],
            }
        },
    )
