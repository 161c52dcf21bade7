"""One situation with two good answers, -1 and 1 in both numbers of an action."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from small_fits import data_for, fit
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.training.learner import Learner

ROWS = 512


def two_answers() -> Log:
    """Return episodes of one step, half with the action (-1, -1), half with (1, 1), reward 1."""
    sign = torch.where(torch.arange(ROWS) % 2 == 0, -1.0, 1.0)
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0)),
        "action": torch.stack([sign, sign], dim=-1),
        "episode": torch.arange(ROWS),
        ("next", "observation"): torch.zeros(ROWS, 2),
        ("next", "reward"): (sign > 0).float(),
        ("next", "terminated"): torch.ones(ROWS, dtype=torch.bool),
        ("next", "truncated"): torch.zeros(ROWS, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": [-2.0, -2.0], "high": [2.0, 2.0]}})


class Answers(NamedTuple):
    """What sampled actions are like."""

    agree: float
    """Share in which both numbers have one sign."""
    off: float
    """Mean distance of a number to the nearer of -1 and 1."""
    positive: float
    """Share of (+, +)."""


def answers(learner: Learner, rows: int = 200) -> Answers:
    """Return what actions of the first rows are like, each from noise of its own."""
    draws = counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(rows))[0]
    with torch.no_grad():
        action = learner.act(two_answers().column("observation")[:rows], draws=draws)
    agree = action[:, 0].sign() == action[:, 1].sign()
    return Answers(
        agree.float().mean().item(),
        (action.abs() - 1).abs().mean().item(),
        (action > 0).all(-1).float().mean().item(),
    )


def fitted(kind: type[Learner], folder: Path, updates: int = 600, **arguments: Any) -> Learner:
    """Return a learner that was fitted to the two answers, in a few seconds."""
    torch.manual_seed(0)
    data = data_for(kind, two_answers(), arguments, batch_size=256, updates_per_step=50)
    arguments = {"optimizer": lambda params: torch.optim.Adam(params, lr=3e-3)} | arguments
    learner = kind(data.spec, **arguments)
    fit(learner, data, folder, updates)
    return learner.eval()
