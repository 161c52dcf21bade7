"""Advantages of a log, by a baseline that needs no network."""

import torch
from torch import Tensor

from hindsight_rl.keys import REWARD
from hindsight_rl.maths.returns import last_rows, returns_to_go
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler

_TIME = 0.01  # steps of an episode are counted in hundreds


class LinearAdvantage(Relabeler):
    """Adds ``advantage``: the return from this step on, less what a linear baseline expects.

    The baseline is the least-squares fit of the returns to 1, s, s^2, t, t^2 and t^3 over the rows
    that may be drawn: observation s in standard deviations, time t in hundreds of steps.

    Args:
        discount: Of the return, in [0, 1].
        ridge: Penalty on the weights of the baseline, per row, above 0.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Duan et al. 2016, "Benchmarking deep reinforcement learning for continuous control",
        arXiv 1604.06778, linear feature baseline.
    """

    in_keys = (REWARD, "observation", "step")
    out_keys = ("advantage",)

    def __init__(self, discount: float = 0.99, ridge: float = 1e-5) -> None:
        super().__init__()
        if not 0 <= discount <= 1 or not ridge > 0:
            raise ValueError(f"discount {discount} must lie in [0, 1] and ridge {ridge} above 0")
        self.discount, self.ridge = discount, ridge

    def prepare(self, log: LogView) -> "LinearAdvantage":
        """Return a copy that carries the column."""
        value = returns_to_go(
            log.column(REWARD), last_rows(log.column("episode_end")), self.discount
        ).double()
        rows, features = log.drawable(), _features(log)
        drawn = features[rows]
        penalty = self.ridge * len(rows) * torch.eye(drawn.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(drawn.T @ drawn + penalty, drawn.T @ value[rows])
        return self.bound(columns={"advantage": (value - features @ weights).float()})


def _features(log: LogView) -> Tensor:
    """Return what the baseline is linear in, ``[N, 2 O + 4]`` float64."""
    state = log.column("observation").double().flatten(1)
    spread = state.std(0, correction=0)
    state = (state - state.mean(0)) / torch.where(spread > 0, spread, 1.0)
    time = _TIME * log.column("step").double().unsqueeze(-1)
    return torch.cat([torch.ones_like(time), state, state**2, time, time**2, time**3], dim=-1)
