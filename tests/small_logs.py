"""A log small enough to check by hand, and how to compare logs.

Imported as ``small_logs`` (``tests`` is on pytest's path).
"""

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.logs.log import Log

Columns = dict[Key, Tensor]


def five(shift: float = 0.0, **more: Tensor) -> Columns:
    """Return the columns of five rows: an episode of three steps and one of two."""
    rows = torch.arange(5.0) + shift
    return {
        OBSERVATION: torch.stack([rows, 10 * rows], dim=1),
        ACTION: torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.5]]),
        NEXT_OBSERVATION: torch.stack([rows + 1, 10 * rows + 10], dim=1),
        REWARD: torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]) + shift,
        TERMINATED: torch.tensor([False, False, True, False, False]),
        TRUNCATED: torch.tensor([False, False, False, False, True]),
        EPISODE: torch.tensor([7, 7, 7, 2, 2]),
        **more,
    }


def small(shift: float = 0.0, **more: Tensor) -> Log:
    """Return the log of :func:`five`, named after its shift."""
    return Log.from_columns(five(shift, **more), {"source": f"log {shift:g}", "rate": 30})


def pictures(rows: int = 5) -> Tensor:
    """Return images ``[rows, 2, 2, 3]`` uint8, no two alike."""
    return torch.arange(rows * 12, dtype=torch.uint8).view(rows, 2, 2, 3)


def same(one: TensorDict, two: TensorDict) -> bool:
    """Return whether keys, dtypes and bits agree."""
    keys = set(one.keys(True, True))
    return keys == set(two.keys(True, True)) and all(
        one[key].dtype == two[key].dtype and torch.equal(one[key], two[key]) for key in keys
    )


def everything(log: Log) -> TensorDict:
    """Return all rows of a log."""
    return log.gather(torch.arange(len(log)))
