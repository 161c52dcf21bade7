"""Small models of small logs, and ensembles that say what a test wants: what tests of models use.

Imported as ``small_dynamics`` (``tests`` is on pytest's path).
"""

import math
from typing import Any

import torch
from small_fits import data_for, learner_of, whole_log
from torch import Tensor, nn

from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.dynamics import Said


def model_of(log: Log | None = None, **arguments: Any) -> tuple[Dynamics, Any]:
    """Return a small model that has looked at its log, and the data."""
    data = data_for(Dynamics, log, arguments)
    model = learner_of(Dynamics, data.spec, **arguments)
    whole_log(model, data)
    return model, data


def draws_of(*shape: int, seed: int = 0) -> Tensor:
    rows = torch.arange(math.prod(shape))
    return counters(seed, torch.zeros(1, dtype=torch.int64), rows)[0].reshape(*shape, 3)


class Says(nn.Module):
    """Stands for an ensemble: every member says the same of all rows."""

    def __init__(self, mean: list[list[float]], log_variance: list[list[float]]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.log_variance = nn.Parameter(torch.tensor(log_variance))

    def forward(self, observation: Tensor, action: Tensor) -> Said:
        """Return ``[E, ..., D]`` twice, and no memory."""
        rows, (members, width) = observation.shape[:-1], self.mean.shape
        shape = (members, *[1] * len(rows), width)
        parts = [
            part.reshape(shape).expand(-1, *rows, -1) for part in (self.mean, self.log_variance)
        ]
        return Said(parts[0], parts[1], {})

    def width_of_bounds(self) -> Tensor:
        """Return what stands for 3."""
        return torch.tensor(3.0)

    def decay(self, rates: Any) -> Tensor:
        """Return what stands for .5."""
        return torch.tensor(0.5)


MEANS = [[0.0, 1.0, 0.0, -1.0], [0.5, 0.0, 0.0, 0.0]]
SPREADS = [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 2.0]]
